//! Embeds the engine: loads the plugins of a folder, sets a picture in motion, and has the frames
//! in memory. The picture is made here; a program would have its own.
//!
//! ```sh
//! cargo run --release --example embed -- demo-model target/release/plugins moving.mp4
//! ```

use wan_host::{Engine, Request};
use wan_media::VideoFrames;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what| arguments.next().ok_or(format!("give a {what}"));
    let (model, plugins, output) =
        (next("model")?, next("plugin folder")?, next("video to write")?);

    let engine = Engine::builder().plugin_dir(plugins).build()?;
    let model = engine.open(model)?;
    let meadow: Vec<u8> = (0..64 * 64).flat_map(|i| [60, 100 + (i / 64) as u8, 60]).collect();
    let picture = VideoFrames::new(64, 64, meadow)?;
    let request = Request::new("a big red ball moving right over a meadow").image(picture);
    let video = model.generate(&request.frame_num(17))?;
    for notice in &video.notices {
        println!("notice: {notice}");
    }
    for number in 0..video.frames.frames() {
        let sum: u64 = video.frames.frame(number).iter().map(|byte| u64::from(*byte)).sum();
        println!("frame {number}: brightness {}", sum / video.frames.frame(number).len() as u64);
    }
    video.save(&output)?;
    println!("wrote {output}");
    Ok(())
}
