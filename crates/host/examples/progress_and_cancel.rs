//! Takes the steps of a generation one by one: shows progress, stops in the middle, keeps the
//! state, and goes on from it to the same latents.
//!
//! ```sh
//! cargo run --release --example progress_and_cancel -- demo-model
//! ```

use wan_host::{Cancel, Engine, Error, Request};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("give a model")?;
    let model = Engine::builder().build()?.open(folder)?;
    let request = Request::new("a small blue box rising over a beach");
    let request = request.frame_num(9).sample_steps(8).sampler("unipc").cache("none");
    let settings = model.settle(&request)?;
    let plan = model.plan(&settings)?;
    println!("{} rounds, {} evaluations", plan.rounds, plan.evaluations);

    // Another thread may set it: encoding, sampling and decoding end within a block of the network.
    let cancel = Cancel::default();
    let conditions = model.encode(&settings, &cancel)?;
    let mut run = model.run(&settings, conditions.clone(), &cancel)?;
    while let Some(round) = run.round()? {
        println!("round {} of {}", round.done, round.rounds);
        if round.done == round.rounds / 2 {
            break;
        }
    }
    let state = run.state()?;
    cancel.cancel();
    assert!(matches!(run.round(), Err(Error::Cancelled)));
    println!("stopped after {} rounds; going on", state.rounds_done());

    let calm = Cancel::default();
    let mut run = model.resume(&settings, conditions, &calm, &state)?;
    while run.round()?.is_some() {}
    let sampled = run.finish()?;
    for frames in model.decode(&settings, &sampled.latents, &calm)? {
        println!("{} frames decoded", frames?.frames());
    }
    Ok(())
}
