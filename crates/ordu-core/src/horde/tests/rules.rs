//! Every reason for which a pop passes over a request, alone and counted once.
//!
//! # Source
//! `generation.md` § 6.6, § 6.7; the recorded scenarios `image-pop/*`.

use super::world::check;

/// One request, one worker, one pop.
#[track_caller]
fn pop(request: &str, worker: &str, expected: &str) {
    let world = format!("request r1 {request}\nworker w1 {worker}\npop w1");
    check(&world, &format!("w1: {expected}"));
}

const CLASSIC: &str = "agent=AI_Horde_Worker";
const REGEN: &str = "agent=AI_Horde_Worker_reGen";

#[test]
fn plain_request_is_served() {
    pop("", "", "r1 j1 sd 150s");
}

#[test]
fn nsfw() {
    pop("", "nsfw=false", "nothing nsfw=1");
    pop("nsfw=false", "nsfw=false", "r1 j1 sd 150s");
}

#[test]
fn untrusted_owner() {
    pop("trusted_workers", "owner=2", "nothing untrusted=1");
    pop("trusted_workers", "owner=1", "r1 j1 sd 150s");
}

#[test]
fn unsafe_address() {
    let stranger = "user 3\nuser 4 trusted\n";
    check(
        &format!("{stranger}request r1 user=3 unsafe_ip\nworker w1 owner=2\npop w1"),
        "w1: nothing untrusted=1",
    );
    check(
        &format!("{stranger}request r1 user=4 unsafe_ip\nworker w1 owner=2\npop w1"),
        "w1: r1 j1 sd 150s",
    );
    pop("unsafe_ip", "unsafe_ip=false", "nothing unsafe_ip=1");
    pop("unsafe_ip", "", "r1 j1 sd 150s");
}

#[test]
fn blacklist_looks_for_parts_of_words_in_any_case() {
    pop("prompt=LightHouse", "blacklist=HTH", "nothing blacklist=1");
    pop("prompt=LightHouse", "blacklist=tho", "nothing blacklist=1");
    pop("prompt=LightHouse", "blacklist=cat", "r1 j1 sd 150s");
}

#[test]
fn worker_lists() {
    pop("workers=w1", "", "r1 j1 sd 150s");
    pop("workers=w2", "", "nothing worker_id=1");
    pop("workers=w1 worker_blacklist", "", "nothing worker_id=1");
    pop("workers=w2,w3 worker_blacklist", "", "r1 j1 sd 150s");
}

#[test]
fn models() {
    pop("", "models=sdxl", "nothing models=1");
    pop("models=sdxl,sd", "models=sd", "r1 j1 sd 150s");
    pop("models=", "models=sdxl", "r1 j1 sdxl 150s");
}

#[test]
fn special_models_wait_for_who_names_them() {
    check(
        "user 5 special
         request r1 models=
         request r2 models=horde_special::user#5
         worker w1 owner=5 models=horde_special::user#5
         pop w1
         pop w1",
        "w1: r2 j1 horde_special::user#5 150s
         w1: nothing models=1",
    );
}

#[test]
fn models_that_are_only_had_by_name() {
    pop("models=", "models=shy", "nothing models=1");
    pop("models=", "models=shy,sdxl", "r1 j1 sdxl 150s");
    pop("models=shy", "models=shy", "r1 j1 shy 150s");
}

#[test]
fn size() {
    pop("size=576x512", "max_pixels=262144", "nothing max_pixels=1");
    pop("size=512x512", "max_pixels=262144", "r1 j1 sd 150s");
    pop("", "max_pixels=-1", "nothing max_pixels=1");
}

#[test]
fn source_image() {
    pop("source=img2img", "img2img=false", "nothing img2img=1");
    pop(
        "source=img2img",
        "agent=SD-WebUI_Stable_Horde_Worker_Bridge:5:x",
        "nothing img2img=1",
    );
    pop("source=img2img", "", "r1 j1 sd 150s");
}

#[test]
fn painting() {
    let worker = "models=sd,sd-inpaint";
    pop("source=inpainting", worker, "r1 j1 sd 150s");
    pop(
        "source=outpainting",
        &format!("{worker} painting=false"),
        "nothing painting=1",
    );
    pop(
        "source=inpainting",
        &format!("{worker} {CLASSIC}:3:x"),
        "nothing bridge_version=1 painting=1",
    );
    pop("source=inpainting", "models=sd", "nothing models=1");
    pop("models=sd-inpaint", "models=sd-inpaint", "nothing models=1");
}

#[test]
fn extra_source_images() {
    let request = "models=cascade source=remix extra_images=1";
    pop(
        request,
        &format!("models=cascade {REGEN}:4:x"),
        "nothing bridge_version=1",
    );
    pop(request, "models=cascade", "r1 j1 cascade 150s");
}

#[test]
fn samplers_with_and_without_karras() {
    let webui = "agent=SD-WebUI_Stable_Horde_Worker_Bridge:3:x";
    pop(
        "",
        "agent=HordeAutoWebBridge:2:x",
        "nothing bridge_version=1",
    );
    pop("sampler=DDIM", webui, "nothing bridge_version=1");
    pop("sampler=DDIM karras=false", webui, "r1 j1 sd 150s");
    pop(
        "sampler=lcm steps=5",
        &format!("{REGEN}:2:x"),
        "nothing bridge_version=1",
    );
    pop(
        "sampler=lcm steps=5",
        &format!("{REGEN}:3:x"),
        "r1 j1 sd 150s",
    );
}

#[test]
fn agents() {
    pop("", &format!("{CLASSIC}:7:x"), "nothing bridge_version=1");
    pop("", &format!("{CLASSIC}:8:x"), "nothing bridge_version=1");
    pop("", &format!("{CLASSIC}:11:x"), "r1 j1 sd 150s");
    pop("", "agent=garbage", "nothing bridge_version=1");
    pop("", "agent=Other:99:x", "nothing bridge_version=1");
    pop("r2=false", "agent=Other:99:x", "r1 j1 sd 150s");
    pop("", &format!("{REGEN}:9.0.1-citests:x"), "r1 j1 sd 150s");
}

#[test]
fn declared_capabilities_replace_the_agent() {
    let ours = "agent=Ordu_Worker:0.1.0:x";
    pop("", ours, "nothing bridge_version=1");
    pop(
        "",
        &format!("{ours} capabilities=r2,karras"),
        "r1 j1 sd 150s",
    );
    pop(
        "tiling",
        &format!("{ours} capabilities=r2,karras"),
        "nothing bridge_version=1",
    );
    pop(
        "sampler=k_heun",
        &format!("{ours} capabilities=r2,karras,k_euler_a"),
        "nothing bridge_version=1",
    );
}

#[test]
fn post_processing() {
    pop(
        "post=GFPGAN",
        "post_processing=false",
        "nothing post-processing=1",
    );
    pop("post=GFPGAN", &format!("{CLASSIC}:11:x"), "r1 j1 sd 150s");
    pop(
        "post=RestoreFormer",
        &format!("{REGEN}:12:x"),
        "nothing bridge_version=1",
    );
    pop("post=RestoreFormer", "", "r1 j1 sd 150s");
}

#[test]
fn drawing_options() {
    for option in ["tiling", "hires_fix", "clip_skip=2"] {
        pop(
            option,
            &format!("{CLASSIC}:12:x"),
            "nothing bridge_version=1",
        );
        pop(option, "", "r1 j1 sd 150s");
    }
    pop("clip_skip=1", &format!("{CLASSIC}:12:x"), "r1 j1 sd 150s");
}

#[test]
fn control_net() {
    let request = "source=img2img control=canny steps=20";
    pop(request, "controlnet=false", "nothing controlnet=1");
    pop(
        request,
        &format!("{CLASSIC}:14:x"),
        "nothing bridge_version=1",
    );
    pop(request, "", "r1 j1 sd 150s");
    pop(
        &format!("{request} image_is_control"),
        &format!("{CLASSIC}:22:x"),
        "nothing bridge_version=1",
    );
    pop(
        &format!("{request} return_control_map"),
        &format!("{CLASSIC}:17:x"),
        "nothing bridge_version=1",
    );
}

#[test]
fn control_by_lines_alone() {
    let ours = "agent=Ordu_Worker:0.1.0:x controlnet=false capabilities=r2,karras,img2img";
    let lines = format!("{ours},controlnet_lines");
    for (kind, expected) in [
        ("canny", "r1 j1 sd 150s"),
        ("scribble", "r1 j1 sd 150s"),
        ("depth", "nothing controlnet=1"),
    ] {
        let request = format!("source=img2img control={kind} steps=20");
        pop(&request, &lines, expected);
        pop(&request, "", "r1 j1 sd 150s");
        pop(&request, ours, "nothing bridge_version=1 controlnet=1");
    }
}

#[test]
fn qr_code() {
    pop(
        "qr_code",
        &format!("{REGEN}:6:x"),
        "nothing bridge_version=1",
    );
    let ours = "agent=Ordu_Worker:0.1.0:x controlnet=false capabilities=r2,karras";
    pop("qr_code", ours, "nothing bridge_version=1");
    pop("qr_code", &format!("{ours},qr_code"), "r1 j1 sd 150s");
    pop("qr_code", "sdxl_controlnet=false", "r1 j1 sd 150s");
    pop(
        "qr_code models=sdxl",
        "models=sdxl sdxl_controlnet=false",
        "nothing controlnet=1",
    );
    pop(
        "qr_code models=sdxl,sd",
        "models=sdxl,sd sdxl_controlnet=false",
        "r1 j1 sd 150s",
    );
}

#[test]
fn transparent() {
    pop(
        "transparent",
        "sdxl_controlnet=false",
        "nothing controlnet=1",
    );
    pop(
        "transparent",
        &format!("{REGEN}:7:x"),
        "nothing bridge_version=1",
    );
    pop("transparent", "", "r1 j1 sd 150s");
}

#[test]
fn loras_and_inversions() {
    pop("loras=a", "lora=false", "nothing lora=1");
    pop(
        "loras=a",
        &format!("{CLASSIC}:21:x"),
        "nothing bridge_version=1",
    );
    pop("loras=a", &format!("{REGEN}:2:x"), "r1 j1 sd 150s");
    pop(
        "loras=123",
        &format!("{REGEN}:2:x"),
        "nothing bridge_version=1",
    );
    pop("loras=123", &format!("{REGEN}:3:x"), "r1 j1 sd 150s");
    pop(
        "tis=a",
        &format!("{CLASSIC}:23:x"),
        "nothing bridge_version=1",
    );
    pop("tis=a", &format!("{CLASSIC}:24:x"), "r1 j1 sd 150s");
}

#[test]
fn large_models_need_new_agents() {
    pop(
        "models=flux steps=4",
        &format!("models=flux {REGEN}:8:x"),
        "nothing bridge_version=1",
    );
    pop("models=flux steps=4", "models=flux", "r1 j1 flux 150s");
    pop(
        "models= steps=4",
        &format!("models=flux,sd {REGEN}:8:x"),
        "r1 j1 sd 150s",
    );
    pop(
        "models=cascade hires_fix",
        &format!("models=cascade {REGEN}:5:x"),
        "nothing bridge_version=1",
    );
    pop(
        "models=cascade",
        &format!("models=cascade {REGEN}:5:x"),
        "r1 j1 cascade 150s",
    );
}

#[test]
fn step_limit() {
    pop("steps=30", "limit_steps", "r1 j1 sd 150s");
    pop("steps=31", "limit_steps", "nothing step_count=1");
    pop(
        "steps=16 sampler=k_heun",
        "limit_steps",
        "nothing step_count=1",
    );
    pop(
        "models=flux steps=6",
        "models=flux limit_steps",
        "r1 j1 flux 150s",
    );
    pop(
        "models=flux steps=8",
        "models=flux limit_steps",
        "nothing step_count=1",
    );
    pop(
        "models=flux,sd steps=8",
        "models=flux,sd limit_steps",
        "r1 j1 sd 150s",
    );
}

#[test]
fn slow_and_extra_slow() {
    pop("", "extra_slow", "nothing performance=1");
    pop("extra_slow_workers", "extra_slow", "r1 j1 sd 450s");
    check(
        "worker w1
         request r1
         pop w1
         at 100
         submit j1
         request r2 slow_workers=false
         pop w1",
        "w1: r1 j1 sd 150s
         j1: reward 7.6 2→mint 8.6 mint→1 7.6
         w1: nothing performance=1",
    );
}

#[test]
fn upfront_kudos() {
    let world = |user: &str| {
        format!(
            "user 3 kudos=27
             user 4 kudos=33
             user 5 trusted kudos=0
             request r1 user={user}
             worker w1 upfront first=friend#6
             pop w1"
        )
    };
    check(&world("3"), "w1: nothing kudos=1");
    check(&world("4"), "w1: r1 j1 sd 150s");
    check(&world("5"), "w1: r1 j1 sd 150s");
    check(
        "user 6 kudos=0
         request r1 user=6
         worker w1 upfront first=friend#6
         pop w1",
        "w1: r1 j1 sd 150s",
    );
    check(
        "user 6 kudos=0
         request r1 user=6
         worker w1 upfront
         pop w1
         available 6 kudos=8
         pop w1",
        "w1: nothing kudos=1
         w1: r1 j1 sd 150s",
    );
}

#[test]
fn maintenance_serves_the_owner_only() {
    check(
        "request r1 user=2
         worker w1 first=friend#2
         checkin w1
         maintenance w1
         pop w1
         request r2 user=1
         pop w1
         work w1
         pop w1",
        "w1: store
         w1: WorkerMaintenance tea
         w1: r2 j1 sd 150s
         w1: r1 j2 sd 150s",
    );
}

#[test]
fn several_reasons_count_once_each() {
    check(
        "request r1 tiling hires_fix loras=a
         request r2 tiling
         request r3 models=sdxl
         worker w1 agent=AI_Horde_Worker:12:x lora=false nsfw=false
         pop w1",
        "w1: nothing bridge_version=2 lora=1 models=1 nsfw=3",
    );
}

#[test]
fn empty_queue_skips_nothing() {
    check("worker w1\npop w1", "w1: nothing");
}
