//! Reads a picture with the models of a folder, and says how fast:
//! `cargo run --release -p ordu-engine --example read -- FOLDER PICTURE`.
#![expect(clippy::print_stdout, reason = "this is a program for a terminal")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use ordu_engine::{AlchemyEngine as _, Answer, Quiet, Readers};
use serde_json::Map;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(picture)) = (arguments.next(), arguments.next()) else {
        return Err("give a folder with models and a picture".into());
    };
    let picture = image::open(picture)?;
    let readers = Readers::open(Path::new(&folder));
    for problem in readers.problems() {
        println!("{problem}");
    }
    // The first answer also loads the model.
    for form in readers.forms() {
        for _ in 0..2 {
            let started = Instant::now();
            let answer = readers.answer(&form, &picture, &Map::new(), &Quiet)?;
            let seconds = started.elapsed().as_secs_f64();
            if let Answer::Words(words) = answer {
                println!("{form}, {seconds:.2} s: {words}");
            }
        }
    }
    Ok(())
}
