//! A text job as a task of the engine. Pure.

use ordu_api::text::{TextJob, picture_mark};
use ordu_engine::{Format, Sampling, TextPicture, TextTask};

/// The task of a job, with its pictures as JPEG.
pub(crate) fn task(job: &TextJob, prompt: &str, pictures: Vec<Vec<u8>>) -> TextTask {
    let params = job.payload.params.clone().with_defaults();
    let (prompt, pictures) = placed(prompt, pictures);
    TextTask {
        prompt,
        pictures,
        max_length: params.max_length.unwrap_or_default(),
        max_context_length: params.max_context_length.unwrap_or_default(),
        sampling: Sampling {
            rep_pen: params.rep_pen,
            rep_pen_range: params.rep_pen_range,
            rep_pen_slope: params.rep_pen_slope,
            temperature: params.temperature,
            tfs: params.tfs,
            top_a: params.top_a,
            top_k: params.top_k,
            top_p: params.top_p,
            typical: params.typical,
            sampler_order: params.sampler_order,
            use_default_badwordsids: params.use_default_badwordsids,
            min_p: params.min_p,
            smoothing_factor: params.smoothing_factor,
            dynatemp_range: params.dynatemp_range,
            dynatemp_exponent: params.dynatemp_exponent,
        },
        stop_sequence: params.stop_sequence.unwrap_or_default(),
        seed: None,
        soft_prompt: job.softprompt.clone().filter(|name| !name.is_empty()),
        format: Format {
            add_space: params.frmtadsnsp,
            remove_blank_lines: params.frmtrmblln,
            remove_special: params.frmtrmspch,
            trim_incomplete: params.frmttriminc,
            single_line: params.singleline,
        },
    }
}

/// Takes the marks of pictures out of a prompt, and puts the pictures in their places. A picture without
/// a mark comes before the prompt.
fn placed(prompt: &str, pictures: Vec<Vec<u8>>) -> (String, Vec<TextPicture>) {
    let mut marked: Vec<_> = (1..)
        .zip(pictures)
        .map(|(number, jpeg)| {
            let mark = picture_mark(number);
            let place = prompt.find(&mark);
            (place, place.map_or(0, |_| mark.len()), jpeg)
        })
        .collect();
    marked.sort_by_key(|(place, ..)| *place);
    let mut bare = String::new();
    let mut rest = prompt;
    let mut placed = Vec::new();
    for (place, length, jpeg) in marked {
        let passed = prompt.len() - rest.len();
        let before = place.map_or(0, |place| place.saturating_sub(passed));
        bare.push_str(rest.get(..before).unwrap_or_default());
        rest = rest.get(before + length..).unwrap_or_default();
        let at = bare.len();
        placed.push(TextPicture { at, jpeg });
    }
    bare.push_str(rest);
    (bare, placed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_stand_where_their_marks_were() {
        for (prompt, expected, order) in [
            ("a[image 1]b[image 2]c", "abc", [(1, 1), (2, 2)]),
            ("a[image 2]b[image 1]", "ab", [(1, 2), (2, 1)]),
            // The second one is the text's own.
            ("é[image 1][image 1]", "é[image 1]", [(0, 2), (2, 1)]),
            ("none", "none", [(0, 1), (0, 2)]),
            ("[image 1][image 2]", "", [(0, 1), (0, 2)]),
        ] {
            let (bare, pictures) = placed(prompt, vec![vec![1], vec![2]]);
            assert_eq!(bare, expected, "{prompt}");
            let found: Vec<_> = pictures.iter().map(|one| (one.at, one.jpeg[0])).collect();
            assert_eq!(found, order, "{prompt}");
        }
    }
}
