//! The operations over plain vectors, against numbers that were worked out by hand.

use wan_plugin_api::{
    DType, Denoise, ErrorKind, FrameLevel, Place, Result, Tensor, TensorOps, frame_terms, term,
};
use wan_plugin_kit::{ModelFn, VecOps, values};

fn shape(tensor: &Tensor) -> (u32, u64, u64) {
    (tensor.form().frames, tensor.form().frame_elements, tensor.form().bytes)
}

fn fails<T: std::fmt::Debug>(result: Result<T>, part: &str) {
    let error = result.unwrap_err();
    assert!(error.message.contains(part), "{error}");
}

#[test]
fn a_tensor_has_equal_frames_of_four_bytes_an_element() {
    let ops = VecOps::default();
    let x = ops.tensor(3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(shape(&x), (3, 2, 24));
    assert_eq!((x.form().dtype(), x.form().place()), (Some(DType::F32), Place::Device));
    assert_eq!(ops.read(&x).unwrap(), values(&x));
    assert_eq!(values(&x), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(shape(&ops.tensor(0, &[])), (0, 0, 0));
}

#[test]
fn a_sum_is_taken_frame_by_frame_in_f64_and_zeros_are_left_out() {
    let ops = VecOps::default();
    let x = ops.tensor(2, &[1.0, 2.0, 3.0, 4.0]);
    let y = ops.tensor(2, &[10.0, 20.0, f32::NAN, f32::INFINITY]);
    let sum = ops.combine(&[term(2.0, &x), frame_terms(&[-0.5, 0.0], &y)]).unwrap();
    assert_eq!(values(&sum), [-3.0, -6.0, 6.0, 8.0]);
    assert_eq!(shape(&sum), (2, 2, 16));
    // In f32 the small number would be lost on the way.
    let [large, small] = [1e8f32, 1.0].map(|v| ops.tensor(1, &[v]));
    let sum = ops.combine(&[term(1.0, &large), term(1.0, &small), term(-1.0, &large)]).unwrap();
    assert_eq!(values(&sum), [1.0]);
}

#[test]
fn forms_that_do_not_fit_are_errors() {
    let ops = VecOps::default();
    let two = ops.tensor(2, &[1.0; 4]);
    let (four, longer) = (ops.tensor(4, &[1.0; 4]), ops.tensor(2, &[1.0; 6]));
    fails(ops.combine(&[]), "needs a term");
    for other in [&four, &longer] {
        fails(ops.combine(&[term(1.0, &two), term(1.0, other)]), "different forms");
        fails(ops.frame_abs_diffs(&two, other), "different forms");
    }
    fails(ops.combine(&[frame_terms(&[1.0], &two)]), "1 coefficients for a tensor of 2 frames");
    fails(ops.narrow_frames(&two, 1, 2), "no such frames");
    fails(ops.write_like(&two, &[1.0; 3]), "wrong number");
    let error = ops.cast(&two, DType::F16).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(!ops.cancelled());
}

#[test]
fn sums_and_differences_are_absolute_and_of_each_frame() {
    let ops = VecOps::default();
    let x = ops.tensor(2, &[1.0, -2.0, -3.0, 4.5]);
    let y = ops.tensor(2, &[2.0, 2.0, -3.0, 4.0]);
    assert_eq!(ops.frame_abs_sums(&x).unwrap(), [3.0, 7.5]);
    assert_eq!(ops.frame_abs_diffs(&x, &y).unwrap(), [5.0, 0.5]);
}

#[test]
fn frames_are_cut_out_and_joined() {
    let ops = VecOps::default();
    let x = ops.tensor(3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let last = ops.narrow_frames(&x, 1, 2).unwrap();
    assert_eq!((values(&last), shape(&last)), (vec![3.0, 4.0, 5.0, 6.0], (2, 2, 16)));
    let none = ops.narrow_frames(&x, 3, 0).unwrap();
    assert_eq!(shape(&none).0, 0);
    let joined = ops.cat_frames(&[&last, &x]).unwrap();
    assert_eq!(values(&joined), [3.0, 4.0, 5.0, 6.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(shape(&joined), (5, 2, 40));
    let like = ops.write_like(&x, &[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]).unwrap();
    assert_eq!((values(&like), shape(&like)), (vec![6.0, 5.0, 4.0, 3.0, 2.0, 1.0], (3, 2, 24)));
}

#[test]
fn noise_is_normal_and_a_function_of_seed_stream_and_index() {
    let mut ops = VecOps::default();
    ops.seed = 3;
    let like = ops.tensor(1, &vec![0.0; 20_000]);
    let draw = |ops: &VecOps, stream, index| values(&ops.noise_like(&like, stream, index).unwrap());
    let noise = draw(&ops, 1, 2);
    assert_eq!(noise, draw(&ops, 1, 2));
    for other in [draw(&ops, 2, 2), draw(&ops, 1, 3), draw(&ops, 2, 1)] {
        let same = noise.iter().zip(&other).filter(|(a, b)| a == b).count();
        assert!(same < 20, "{same} numbers of 20000 are the same");
    }
    let moment = |power: i32| {
        noise.iter().map(|n| f64::from(*n).powi(power)).sum::<f64>() / noise.len() as f64
    };
    // Six deviations of each sample moment.
    assert!(moment(1).abs() < 0.043, "mean {}", moment(1));
    assert!((moment(2) - 1.0).abs() < 0.06, "variance {}", moment(2));
    assert!((moment(4) - 3.0).abs() < 0.42, "fourth moment {}", moment(4));
    let within = noise.iter().filter(|n| n.abs() < 1.0).count();
    assert!((within as f64 / 20_000.0 - 0.6827).abs() < 0.02, "{within} within 1");
    ops.seed = 4;
    assert_ne!(noise, draw(&ops, 1, 2));
}

#[test]
fn bf16_has_eight_bits_of_precision_and_rounds_to_even() {
    let ops = VecOps::default();
    let ulp = 2f32.powi(-7);
    let given = [1.0, 1.0 + 0.5 * ulp, 1.0 + 1.5 * ulp, 1.0 + 0.51 * ulp, -3.0, 0.0, 1e30];
    let cast = ops.cast(&ops.tensor(1, &given), DType::BF16).unwrap();
    let rounded = values(&cast);
    assert_eq!(rounded[..6], [1.0, 1.0, 1.0 + 2.0 * ulp, 1.0 + ulp, -3.0, 0.0]);
    assert!((rounded[6] / 1e30 - 1.0).abs() < 0.004);
    assert_eq!((cast.form().dtype(), shape(&cast)), (Some(DType::BF16), (1, 7, 14)));
    // What is there already is shared.
    let before = ops.live_bytes();
    let same = ops.cast(&cast, DType::BF16).unwrap();
    assert_eq!(ops.live_bytes(), before);
    drop(same);
    assert_eq!(values(&ops.cast(&cast, DType::F32).unwrap()), rounded);
}

#[test]
fn f8_has_a_scale_for_each_frame_and_three_bits_of_mantissa() {
    let ops = VecOps::default();
    // The largest of each frame is 448 units. In the second, a unit is 1: 17 lies between 16 and
    // 18, and below 2^-6 the steps are 2^-9.
    let given = [896.0, 2.0, 0.0, 448.0, 17.0, 0.003, 0.0, 0.0, 0.0];
    let cast = ops.cast(&ops.tensor(3, &given), DType::F8E4M3).unwrap();
    assert_eq!(values(&cast)[..3], [896.0, 2.0, 0.0]);
    assert_eq!(values(&cast)[3..5], [448.0, 16.0]);
    assert_eq!(values(&cast)[5], 2f32.powi(-8));
    assert_eq!(values(&cast)[6..], [0.0; 3]);
    // An element is a byte, a scale four.
    assert_eq!((cast.form().dtype(), shape(&cast)), (Some(DType::F8E4M3), (3, 3, 9 + 12)));
    let nan = ops.cast(&ops.tensor(1, &[1.0, f32::NAN]), DType::F8E4M3).unwrap();
    assert!(values(&nan)[1].is_nan() && values(&nan)[0] == 1.0);
}

#[test]
fn live_bytes_are_those_of_the_handles_that_are_left_where_they_lie() {
    let ops = VecOps::default();
    let x = ops.tensor(1, &[1.0, 2.0]);
    let shared = x.clone();
    assert_eq!((ops.live_bytes(), ops.live_bytes_in(Place::Host)), (8, 0));
    drop(x);
    assert_eq!(ops.live_bytes(), 8);
    let moved = ops.move_to(&shared, Place::Host).unwrap();
    assert_eq!((moved.form().place(), values(&moved)), (Place::Host, vec![1.0, 2.0]));
    assert_eq!((ops.live_bytes_in(Place::Device), ops.live_bytes_in(Place::Host)), (8, 8));
    assert_eq!(ops.live_bytes(), 16);
    let again = ops.move_to(&moved, Place::Host).unwrap();
    assert_eq!(ops.live_bytes(), 16);
    // A cast stays where its tensor lies.
    let half = ops.cast(&moved, DType::BF16).unwrap();
    assert_eq!((half.form().place(), ops.live_bytes_in(Place::Host)), (Place::Host, 12));
    drop((shared, moved, again, half));
    assert_eq!(ops.live_bytes(), 0);
}

#[test]
fn rows_that_repeat_are_held_once() {
    let ops = VecOps::default();
    let rows = ops.rows(2, &[1.0, 2.0, 3.0, 4.0], 2, &[1, 0, 1, 1]);
    assert_eq!(values(&rows), [3.0, 4.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]);
    assert_eq!(shape(&rows), (2, 4, 16));
    let half = ops.cast(&rows, DType::BF16).unwrap();
    assert_eq!(shape(&half), (2, 4, 8));
    // A scale for each frame tells equal rows apart.
    let eighth = ops.cast(&rows, DType::F8E4M3).unwrap();
    assert_eq!(shape(&eighth), (2, 4, 8 + 8));
    let moved = ops.move_to(&rows, Place::Host).unwrap();
    assert_eq!(shape(&moved), (2, 4, 16));
}

#[test]
fn a_model_of_a_function_is_asked_with_numbers_and_levels() {
    let ops = VecOps::default();
    let levels = [FrameLevel::moving(0, 500.0, 0.5, 0.25), FrameLevel::frozen(1, 0.0, 0.0)];
    let mut model = ModelFn::new(&ops, |sample: &[f32], levels: &[FrameLevel]| {
        sample.iter().map(|x| x + levels[0].timestep as f32).collect()
    });
    let sample = ops.tensor(2, &[1.0, 2.0]);
    assert_eq!(model.evaluations, 0);
    let velocity = model.velocity(&sample, &levels).unwrap();
    assert_eq!((values(&velocity), shape(&velocity)), (vec![501.0, 502.0], (2, 1, 8)));
    model.velocity(&sample, &levels).unwrap();
    assert_eq!(model.evaluations, 2);
}
