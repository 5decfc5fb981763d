//! Two runs at once on one model: the weights are shared, and each has the bits that it has alone.
//!
//! ```sh
//! cargo run --release --example two_runs -- demo-model
//! ```

use std::thread;

use wan_host::{Engine, Generated, Model, Request, Result};

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("give a model")?;
    let model = Engine::builder().build()?.open(folder)?;
    let request = |prompt: &str| {
        Request::new(prompt).frame_num(9).sample_steps(8).sampler("unipc").cache("none")
    };
    let requests = [request("a big red ball falling"), request("a big white star rising")];
    let alone = requests.each_ref().map(|request| hash(&model, request));
    let together = thread::scope(|scope| {
        let threads = requests.each_ref().map(|request| scope.spawn(|| hash(&model, request)));
        threads.map(|thread| thread.join().expect("no panic leaves the library"))
    });
    for (request, hashes) in requests.iter().zip(alone.into_iter().zip(together)) {
        let (alone, together) = (hashes.0?, hashes.1?);
        assert_eq!(alone, together);
        println!("{:?}: latents {}", request.prompt, &alone[..16]);
    }
    Ok(())
}

fn hash(model: &Model, request: &Request) -> Result<String> {
    let Generated { sidecar, .. } = model.generate(request)?;
    Ok(sidecar.latents_hash)
}
