//! How long the disk takes by itself, beside what it does for the server: whoever answers when something
//! is on the disk cannot be faster.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Course;

/// What its line in the report is called.
const LINE: &str = "(4 KiB to the same disk)";

/// Between two that are due.
const EVERY: Duration = Duration::from_millis(50);

/// Writes the same place of a file over and over, in a folder on the disk of the database, until the
/// course is over. Each is timed from when it began, or from when it was due if the one before took
/// longer than that.
pub(super) async fn ask(course: Arc<Course>, folder: Arc<Path>) {
    let mut file = open(&folder);
    let mut due = Instant::now();
    loop {
        due += EVERY;
        let is_late = Instant::now() > due;
        let came = course.over.run_until_cancelled(sleep_until(due)).await;
        if came.is_none() {
            return;
        }
        // A timer wakes up to a millisecond late, of which the disk knows nothing.
        let begun = if is_late { due } else { Instant::now() };
        file = match file {
            Ok(file) => written(file).await,
            Err(error) => Err(error),
        };
        let error = file.as_ref().err().map(ToString::to_string);
        let took = begun.elapsed();
        course.recorder.note(LINE, took, error.as_deref());
    }
}

fn open(folder: &Path) -> io::Result<File> {
    let path = folder.join("bench-disk");
    let mut file = OpenOptions::new();
    file.write(true).create(true).truncate(true).open(path)
}

async fn written(mut file: File) -> io::Result<File> {
    let write = move || {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[b'x'; 4096])?;
        file.sync_data()?;
        Ok(file)
    };
    let written = tokio::task::spawn_blocking(write).await;
    written.unwrap_or_else(|error| Err(io::Error::other(error)))
}
