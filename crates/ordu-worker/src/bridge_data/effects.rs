//! Which settings of a file have no effect here, and what to do instead. Pure.
//!
//! A setting that is at its default is not worth a word.

use super::Settings;

/// A setting without effect.
struct Vain {
    key: &'static str,
    /// Whether two files differ in it.
    differs: fn(&Settings, &Settings) -> bool,
    /// What to do instead.
    instead: &'static str,
}

const MEMORY: &str = "the engine keeps models in memory as long as there is room";
const LIMIT: &str = "the engine measures how long things take and waits accordingly";

/// Lines of the table: `key group => instead`.
macro_rules! vain {
    ($($key:ident in $group:ident => $instead:expr;)*) => {
        &[$(Vain {
            key: stringify!($key),
            differs: |one, other| one.$group.$key != other.$group.$key,
            instead: $instead,
        }),*]
    };
}

const ALL: &[Vain] = vain! {
    temp_dir in models => "nothing is written outside `cache_home`";
    high_memory_mode in effort => MEMORY;
    unload_models_from_vram_often in effort => MEMORY;
    very_fast_disk_mode in effort => MEMORY;
    post_process_job_overlap in effort => "raise `max_threads` to let jobs overlap";
    process_timeout in effort => LIMIT;
    post_process_timeout in effort => LIMIT;
    download_timeout in effort => "a transfer goes on as long as bytes come";
    safety_on_gpu in backend => "give the address of a classifier with `--safety URL`";
    limited_console_messages in console => "give `--log warn` to be told less";
    capture_kudos_training_data in console => "`--metrics ADDRESS` tells times and kudos";
};

/// A word about each setting that its owner changed in vain.
pub(super) fn unheeded(settings: &Settings) -> Vec<String> {
    let usual = Settings::default();
    let changed = ALL.iter().filter(|vain| (vain.differs)(settings, &usual));
    changed
        .map(|Vain { key, instead, .. }| format!("`{key}` has no effect: {instead}"))
        .collect()
}
