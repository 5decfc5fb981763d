#![allow(missing_docs)]
use candle_core::{DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap};
use wan_model::*;
fn main() {
    let config = WanConfig { num_layers: 2, ..WanConfig::t2v_1_3b() };
    let model = WanModel::load(config, VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu)).unwrap();
    let text = model.text_context(&Tensor::randn(0f32, 1., (1, 512, 4096), &Device::Cpu).unwrap()).unwrap();
    let x = Tensor::randn(0f32, 1., (1, 16, 3, 30, 52), &Device::Cpu).unwrap();
    for attention in [Attention::Bidirectional, Attention::BlockCausal(1), Attention::BlockCausal(2)] {
    for _ in 0..2 {
        let s = std::time::Instant::now();
        let e = model.embed(&x, &Timesteps::per_video(&[500.]).unwrap(), None).unwrap();
        let t0 = s.elapsed();
        let h = model.blocks(0..2, &e.hidden, &e, &text, attention).unwrap();
        let t1 = s.elapsed();
        model.head(&h, &e).unwrap();
        println!("embed {t0:?} 2 blocks {:?} head {:?}: {:.0} GFLOP/s", t1 - t0, s.elapsed() - t1, 2. * 110. / (t1 - t0).as_secs_f64());
    }}
    let config = vae::VaeConfig::wan_2_1();
    let vae = vae::Vae::load(config, VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu)).unwrap();
    let z = Tensor::randn(0f32, 1., (1, 16, 3, 30, 40), &Device::Cpu).unwrap();
    let s = std::time::Instant::now();
    vae.decode(&z).unwrap();
    println!("vae decode 3x30x40: {:?}, {:.0} GFLOP/s of torch's 6021", s.elapsed(), 6021. / s.elapsed().as_secs_f64());
}
