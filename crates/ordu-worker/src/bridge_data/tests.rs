//! Files of existing workers, good and bad.

use super::*;

const TEMPLATE: &str = include_str!("../../testdata/bridgeData.yaml");

fn parse(text: &str) -> Result<BridgeData, ConfigError> {
    BridgeData::parse(Path::new("bridgeData.yaml"), text, &Environment::default())
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    let given = variables.iter();
    Environment::new(given.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

/// Checklist: a config file of the reference loads.
#[test]
fn a_whole_file_of_the_deployed_worker_is_read() {
    let data = parse(TEMPLATE).unwrap();
    assert_eq!(data.warnings, Vec::<String>::new());
    assert_eq!(
        data.config.models_to_load,
        ["top 2", "all sdxl", "Deliberate"]
    );
    assert_eq!(data.config.dreamer_name(), "Some Dreamer");
    assert_eq!(data.config.max_pixels(), 1024 * 1024);
    assert_eq!(data.config.priority_usernames, ["friend#12"]);
    let settings = &data.settings;
    assert_eq!(settings.models.lora_cache_bytes, 20 << 30);
    assert_eq!(
        settings.models.cache_home,
        ["./models/", "D:/more"].map(PathBuf::from)
    );
    assert_eq!(
        settings.models.custom_models[0].file,
        Path::new("C:/models/mine.safetensors")
    );
    assert!(data.config.allow_lora && data.config.allow_controlnet);
    assert_eq!(data.config.max_context_length, 4096);
    assert_eq!(
        settings.effort.vram_to_leave_free, None,
        "the dummy means nothing"
    );
    assert_eq!(settings.effort.ram_to_leave_free, Some(Amount::Percent(20)));
    assert!((data.config.model_stickiness - 0.2).abs() < f64::EPSILON);
    assert_eq!(data.config.forms, ["caption", "post_process"]);
    assert_eq!(data.config.check(&data.settings.kinds()), Ok(()));
}

#[test]
fn every_key_of_the_table_is_in_the_file() {
    let members = members(Path::new("x.yaml"), TEMPLATE).unwrap();
    for key in known_keys().keys() {
        assert!(members.contains_key(*key), "{key}");
    }
}

#[test]
fn an_empty_file_means_the_defaults() {
    for text in [
        "",
        "# nothing\n",
        "---\n",
        "max_power:\ncivitai_api_token: null\n",
    ] {
        let data = parse(text).unwrap();
        assert_eq!(data, BridgeData::default(), "{text}");
    }
    let data = BridgeData::default();
    assert_eq!(data.config.horde_url, "https://aihorde.net/api/");
    assert_eq!((data.config.max_power, data.config.queue_size), (8, 1));
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let error = parse(
        "max_threads: 17\nqueue_size: -1\nmax_batch: many\nmax_power: 0\napi_key: secretly short\n\
         priority_usernames: [nobody]\nmodel_stickiness: 1.5\nnsfw: perhaps\nmax_lora_cache_size: 5\n\
         kai_url: nowhere\nforms: [alchemy]\nroles: [cook]\nbackend: oven\nram_to_leave_free: '101%'\n\
         custom_models: [1]\nmodels_to_load: {a: b}\nmax_length: 16385\ndreamer_name: An Awesome Dreamer\n\
         inference_step_timeout: 31\nminutes_allowed_without_jobs: 3600\ncache_home: ';'\n",
    )
    .unwrap_err();
    let ConfigError(lines) = &error;
    for key in [
        "max_threads",
        "queue_size",
        "max_batch",
        "max_power",
        "api_key",
        "priority_usernames",
        "model_stickiness",
        "nsfw",
        "max_lora_cache_size",
        "kai_url",
        "forms",
        "roles",
        "backend",
        "ram_to_leave_free",
        "custom_models",
        "models_to_load",
        "max_length",
        "dreamer_name",
        "inference_step_timeout",
        "minutes_allowed_without_jobs",
        "cache_home",
    ] {
        let about = lines
            .iter()
            .filter(|line| line.starts_with(&format!("`{key}` must")));
        assert_eq!(about.count(), 1, "{key}: {lines:#?}");
    }
    assert_eq!(lines.len(), 21);
    assert!(!error.to_string().contains("secretly"));
}

#[test]
fn numbers_lists_and_switches_are_taken_as_people_write_them() {
    let data = parse(
        "max_power: '32'\nmax_threads: 2.0\nnsfw: 'False'\nblacklist: one\nworker_name: 1234\n\
         api_key: 0000000000\nallow_img2img: no\n",
    )
    .unwrap();
    assert_eq!((data.config.max_power, data.config.max_threads), (32, 2));
    assert!(!data.config.nsfw && !data.config.allow_img2img);
    assert_eq!(data.config.blacklist, ["one"]);
    assert_eq!(data.config.worker_name, "1234");
    assert_eq!(data.config.api_key, ordu_api::ApiKey::anonymous());
}

#[test]
fn an_unknown_key_is_told_and_kept() {
    let data = parse("brand_new: [1]\nalways_download: true\n").unwrap();
    assert_eq!(data.unknown["brand_new"], serde_json::json!([1]));
    assert_eq!(data.warnings.len(), 2);
    assert!(data.warnings[1].contains("brand_new") || data.warnings[0].contains("brand_new"));
}

#[test]
fn keys_that_need_others_are_off_without_them() {
    let off = |text: &str| {
        let data = parse(text).unwrap();
        assert_eq!(data.warnings.len(), 1, "{text}");
        !data.config.allow_sdxl_controlnet && !data.config.allow_controlnet
    };
    assert!(off("allow_sdxl_controlnet: true"));
    assert!(off("allow_controlnet: true\nallow_img2img: false"));
    let slow = parse("extra_slow_worker: true\nvery_high_memory_mode: true").unwrap();
    assert!(!slow.settings.effort.high_memory_mode);
    assert_eq!(
        (slow.config.queue(), slow.settings.effort.preload_timeout),
        (0, 120)
    );
    let fast = parse("high_performance_mode: true\nmoderate_performance_mode: true").unwrap();
    assert_eq!(fast.config.haste, Haste::High);
}

#[test]
fn who_follows_no_model_is_told() {
    let told = |text: &str| parse(text).unwrap().warnings;
    assert_eq!(told("dynamic_models: true").len(), 1);
    let three = "dynamic_models: true\nnumber_of_dynamic_models: 3";
    assert_eq!(told(three), Vec::<String>::new());
}

#[test]
fn what_has_no_effect_says_what_to_do_instead() {
    let told = |text: &str| parse(text).unwrap().warnings;
    for key in [
        "very_high_memory_mode: true",
        "unload_models_from_vram_often: false",
        "very_fast_disk_mode: true",
        "post_process_job_overlap: true",
        "process_timeout: 100",
        "post_process_timeout: 90",
        "safety_on_gpu: true",
        "capture_kudos_training_data: true",
    ] {
        let warnings = told(key);
        assert_eq!(warnings.len(), 1, "{key}: {warnings:?}");
        assert!(warnings[0].contains("has no effect: "), "{warnings:?}");
    }
    assert_eq!(
        told("post_process_timeout: 60\ndevices: []"),
        Vec::<String>::new()
    );
}

#[test]
fn back_slashes_in_paths_are_taken() {
    for written in [
        "C:\\models\\new",
        "'C:\\models\\new'",
        "\"C:\\models\\new\"",
        "\"C:\\\\models\\\\new\"",
    ] {
        let data = parse(&format!("cache_home: {written} # a \"note\" \\ here\n"));
        let data = data.unwrap_or_else(|error| panic!("{written}: {error}"));
        assert_eq!(
            data.settings.models.cache_home,
            [Path::new("C:/models/new")],
            "{written}"
        );
    }
}

#[test]
fn json_is_told_by_its_ending() {
    let nobody = Environment::default();
    let data = BridgeData::parse(Path::new("a.JSON"), "{\"max_power\": 9}", &nobody).unwrap();
    assert_eq!(data.config.max_power, 9);
    for (path, text) in [
        ("a.json", "max_power: 9"),
        ("a.yaml", "a: [b"),
        ("a.yaml", "- 1"),
        ("a.json", "3"),
    ] {
        assert!(
            BridgeData::parse(Path::new(path), text, &nobody).is_err(),
            "{text}"
        );
    }
}

#[test]
fn a_file_that_grows_while_it_is_read_is_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let inner = format!("*a{}, ", level - 1).repeat(10);
        let inner = inner.trim_end_matches(", ");
        bomb.extend([format!("a{level}: &a{level} [{inner}]\n")]);
    }
    assert!(parse(&bomb).is_err());
    assert!(parse(&"[".repeat(100_000)).is_err());
}

#[test]
fn the_environment_counts_more_than_the_file() {
    let variables = environment(&[
        ("AIWORKER_CACHE_HOME", "/a;/b"),
        ("CIVIT_API_TOKEN", "t0ken"),
        ("AI_HORDE_URL", "https://h.example/api/"),
        ("HORDE_URL", "https://older.example"),
        ("HORDE_BLACKLIST", "one, two"),
        ("AIWORKER_LORA_CACHE_SIZE", "512"),
        ("AIWORKER_EXTRA_MODEL_DIRECTORIES", "/c"),
        ("AIWORKER_REGEN_MAX_POWER", "64"),
        ("HORDE_MAX_THREADS", ""),
    ]);
    let text = "cache_home: /x\nmax_power: 9";
    let data = BridgeData::parse(Path::new("x.yaml"), text, &variables).unwrap();
    assert_eq!(
        data.settings.models.cache_home,
        ["/a", "/b"].map(PathBuf::from)
    );
    assert_eq!(data.config.horde_url, "https://h.example/api/");
    assert_eq!(data.config.blacklist, ["one", "two"]);
    assert_eq!(data.settings.models.lora_cache_bytes, 512 << 20);
    assert_eq!(data.settings.models.extra_folders, [Path::new("/c")]);
    assert_eq!(data.config.max_power, 9, "only with `-e`");
    assert!(!format!("{data:?} {:?}", data.config).contains("t0ken"));
    let wrong = environment(&[("HORDE_MAX_POWER", "x"), ("AIWORKER_LORA_CACHE_SIZE", "y")]);
    let ConfigError(lines) = BridgeData::parse(Path::new("x.yaml"), "", &wrong).unwrap_err();
    assert_eq!(lines.len(), 2);
}

#[test]
fn the_environment_can_be_all_there_is() {
    let variables = environment(&[
        ("AIWORKER_REGEN_MAX_POWER", "64"),
        ("AIWORKER_REGEN_NSFW", "False"),
        ("AIWORKER_REGEN_MODELS_TO_LOAD", "['top 3', \"Deliberate\"]"),
        ("AIWORKER_REGEN_CACHE_HOME", "/a;/b"),
        ("AIWORKER_REGEN_UNHEARD", "1"),
    ]);
    let data = BridgeData::from_environment(&variables).unwrap();
    assert_eq!((data.config.max_power, data.config.nsfw), (64, false));
    assert_eq!(data.config.models_to_load, ["top 3", "Deliberate"]);
    assert_eq!(data.settings.models.cache_home.len(), 2);
    assert_eq!(data.warnings.len(), 1);
}

#[test]
fn custom_models_may_lie_in_a_file_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("custom.json");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let variables = environment(&[("HORDELIB_CUSTOM_MODELS", path.to_str().unwrap())]);
        BridgeData::from_environment(&variables)
    };
    let model = r#"{"Mine": {"name": "Mine", "baseline": "stable_diffusion_xl", "type": "ckpt",
                    "config": {"files": [{"path": "/m/mine.safetensors"}]}}}"#;
    let models = read(model).unwrap().settings.models.custom_models;
    assert_eq!(models[0].name, "Mine");
    assert_eq!(models[0].file, Path::new("/m/mine.safetensors"));
    for wrong in ["[]", "{\"Mine\": {}}", "{\"Mine\": 7}", ""] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

/// Writes a file so that its time differs from the one before.
fn write(path: &Path, text: &str, tick: u64) {
    std::fs::write(path, text).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(tick))
        .unwrap();
}

#[tokio::test]
async fn a_watched_file_yields_what_it_says_or_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bridgeData.yaml");
    write(&path, "max_power: 9\nmax_threads: 2", 1);
    let file = ConfigFile::new(path.clone(), Environment::default());
    let (mut changes, watching) = file.watch_every(Duration::from_millis(1)).unwrap();
    let testing = async {
        assert_eq!(
            changes
                .borrow_and_update()
                .as_ref()
                .unwrap()
                .config
                .max_power,
            9
        );
        write(&path, "max_power: 10\nmax_threads: 4", 2);
        changes.changed().await.unwrap();
        let new = changes.borrow_and_update().clone().unwrap();
        assert_eq!((new.config.max_power, new.config.max_threads), (10, 4));
        write(&path, "max_power: none", 3);
        changes.changed().await.unwrap();
        assert!(changes.borrow_and_update().is_err());
        std::fs::remove_file(&path).unwrap();
        write(&path, "max_power: 11", 4);
        changes.changed().await.unwrap();
        assert_eq!(
            changes
                .borrow_and_update()
                .as_ref()
                .unwrap()
                .config
                .max_power,
            11
        );
        drop(changes);
    };
    let both = async { tokio::join!(testing, watching) };
    tokio::time::timeout(Duration::from_secs(20), both)
        .await
        .expect("the watch is stuck");
    let gone = ConfigFile::new(folder.path().join("gone.yaml"), Environment::default());
    assert!(gone.watch().is_err());
}

#[test]
fn a_file_as_variables_means_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bridgeData.yaml");
    let text = "api_key: 0123456789abcdefghijkl\ndreamer_name: A Name\nmax_power: 32\nnsfw: false\n\
                models_to_load: [top 2, 'all sdxl']\nblacklist: []\nmodel_stickiness: 0.5\n\
                cache_home: ./a;./b\nforms: [caption]\nram_to_leave_free: 20%\nmax_batch:\n";
    std::fs::write(&path, text).unwrap();
    let file = ConfigFile::new(path.clone(), Environment::default());
    let told = file.to_environment().unwrap();
    assert_eq!(told.missing, Vec::<String>::new());
    let line = ("AIWORKER_REGEN_MAX_POWER".to_owned(), "32".to_owned());
    assert!(told.lines.contains(&line));
    let environment = Environment::new(told.lines);
    let read = BridgeData::from_environment(&environment).unwrap();
    let expected = file.load().unwrap();
    assert_eq!(read.config, expected.config);
    assert_eq!(read.settings, expected.settings);
    let text = "dreamer_name: One, Two\nblacklist: ['a, b']\nmax_power: 8\ncustom_models:\n\
                - {name: a, baseline: b, filepath: c}\n";
    std::fs::write(&path, text).unwrap();
    let told = file.to_environment().unwrap();
    assert_eq!(told.lines.len(), 1);
    assert_eq!(told.missing, ["blacklist", "custom_models", "dreamer_name"]);
    std::fs::write(&path, "max_power: many").unwrap();
    assert!(file.to_environment().is_err());
}
