use wan_plugin_api::{frame_terms, term};

use super::*;

fn ops() -> HostOps {
    HostOps::new(Device::Cpu, Noise::new(1), Cancel::default())
}

/// `[1, 2, 3, 2]`: three frames along axis 2, element = its position.
fn latents(ops: &HostOps) -> Tensor {
    let tensor = CandleTensor::arange(0f32, 12.0, &Device::Cpu).unwrap();
    ops.wrap(Item::Computed, tensor.reshape((1, 2, 3, 2)).unwrap(), 2, 3).unwrap()
}

fn bits(ops: &HostOps, tensor: &Tensor) -> Vec<u32> {
    let values = ops.unwrap(tensor).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn frames_are_read_and_written_one_after_the_other() {
    let ops = ops();
    let x = latents(&ops);
    assert_eq!(ops.read(&x).unwrap()[..4], [0.0, 1.0, 6.0, 7.0], "frame 0 of both channels");
    let copy = ops.write_like(&x, &ops.read(&x).unwrap()).unwrap();
    assert_eq!(bits(&ops, &copy), bits(&ops, &x));
    assert!(ops.write_like(&x, &[0.0]).is_err());
}

#[test]
fn a_frame_that_nothing_is_added_to_keeps_its_bits() {
    let ops = ops();
    let values = [-0.0, f32::MIN_POSITIVE / 2.0, 1.5, 2.5, 3.5, 4.5];
    let x =
        ops.wrap(Item::Computed, CandleTensor::new(&values, &Device::Cpu).unwrap(), 0, 3).unwrap();
    let nan = ops
        .wrap(Item::Computed, CandleTensor::new(&[f32::NAN; 6], &Device::Cpu).unwrap(), 0, 3)
        .unwrap();
    let sum = ops.combine(&[term(1.0, &x), frame_terms(&[0.0, 0.0, 1.0], &nan)]).unwrap();
    assert_eq!(bits(&ops, &sum)[..4], bits(&ops, &x)[..4]);
    assert!(ops.read(&sum).unwrap()[4].is_nan());
}

#[test]
fn coefficients_apply_to_their_frames() {
    let ops = ops();
    let x = latents(&ops);
    let y = ops.combine(&[frame_terms(&[0.0, 1.0, 10.0], &x), term(0.5, &x)]).unwrap();
    let expected: Vec<f32> = ops
        .read(&x)
        .unwrap()
        .iter()
        .zip([0.5, 0.5, 0.5, 0.5, 1.5, 1.5, 1.5, 1.5, 10.5, 10.5, 10.5, 10.5])
        .map(|(v, c)| v * c)
        .collect();
    assert_eq!(ops.read(&y).unwrap(), expected);
    let other = ops
        .wrap(Item::Computed, CandleTensor::new(&[1f32, 2.0], &Device::Cpu).unwrap(), 0, 2)
        .unwrap();
    assert!(ops.combine(&[term(1.0, &x), term(1.0, &other)]).is_err());
}

#[test]
fn repeated_rows_are_held_once_and_sum_as_if_repeated() {
    let ops = ops();
    let rows = CandleTensor::new(&[[1f32, -2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
    let signal = ops.wrap_rows(Item::TimeEmbedding, rows, vec![1, 0, 1], 3).unwrap();
    assert_eq!(signal.form().bytes, 16);
    assert_eq!(signal.form().elements(), 6);
    assert_eq!(ops.frame_abs_sums(&signal).unwrap(), [7.0, 3.0, 7.0]);
    let one = CandleTensor::new(&[[1f32, 0.0]], &Device::Cpu).unwrap();
    let one = ops.wrap_rows(Item::TimeEmbedding, one, vec![0], 3).unwrap();
    assert_eq!(ops.frame_abs_diffs(&signal, &one).unwrap(), [6.0, 2.0, 6.0]);
    let half = ops.cast(&signal, DType::BF16).unwrap();
    assert_eq!((half.form().bytes, half.form().frames), (8, 3));
}

#[test]
fn a_part_is_a_copy_that_keeps_only_itself_alive() {
    let ops = ops();
    let x = latents(&ops);
    assert_eq!(ops.ledger().live(), 48);
    let middle = ops.narrow_frames(&x, 1, 1).unwrap();
    drop(x);
    assert_eq!(ops.ledger().live(), 16);
    assert_eq!(ops.read(&middle).unwrap(), [2.0, 3.0, 8.0, 9.0]);
    drop(middle);
    assert_eq!(ops.ledger().live(), 0);
}

#[test]
fn frames_can_be_taken_apart_and_joined_again() {
    let ops = ops();
    let x = latents(&ops);
    let parts = [(0, 1), (1, 2)].map(|(start, len)| ops.narrow_frames(&x, start, len).unwrap());
    let joined = ops.cat_frames(&[&parts[0], &parts[1]]).unwrap();
    assert_eq!(bits(&ops, &joined), bits(&ops, &x));
    assert!(ops.narrow_frames(&x, 2, 2).is_err());
}

#[test]
fn half_and_quarter_width_round_within_their_bounds() {
    let ops = ops();
    let like = latents(&ops);
    let x = ops.noise_like(&like, 0, 0).unwrap();
    let values = ops.read(&x).unwrap();
    let bf16 = ops.cast(&x, DType::BF16).unwrap();
    assert_eq!(bf16.form().bytes, 24);
    for (a, b) in values.iter().zip(ops.read(&bf16).unwrap()) {
        assert!((a - b).abs() <= a.abs() * 2f32.powi(-8), "{a} {b}");
    }
    let f8 = ops.cast(&x, DType::F8E4M3).unwrap();
    assert_eq!(f8.form().bytes, 12 + 4 * 3, "one scale per frame");
    for (frame, frame8) in values.chunks(4).zip(ops.read(&f8).unwrap().chunks(4)) {
        let largest = frame.iter().fold(0f32, |m, v| m.max(v.abs()));
        for (a, b) in frame.iter().zip(frame8) {
            // Three bits of mantissa; below the smallest normal (2^-6 / 448 of the largest) the
            // step is fixed.
            let bound = (a.abs() * 2f32.powi(-4)).max(largest / 448.0 * 2f32.powi(-10));
            assert!((a - b).abs() <= bound, "{a} {b}");
        }
    }
}

#[test]
fn noise_depends_on_stream_and_index_alone() {
    let ops = ops();
    let like = latents(&ops);
    let draw = |stream, index| bits(&ops, &ops.noise_like(&like, stream, index).unwrap());
    assert_eq!(draw(3, 4), draw(3, 4));
    assert_ne!(draw(3, 4), draw(3, 5));
    assert_ne!(draw(3, 4), draw(4, 4));
}

#[test]
fn a_foreign_handle_is_an_error() {
    let foreign = wan_plugin_kit::VecOps::default().tensor(1, &[1.0]);
    assert!(ops().frame_abs_sums(&foreign).is_err());
}
