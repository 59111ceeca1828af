//! What a source can steer by: the names of the protocol, who looks at the source, and which weights
//! steer.
//!
//! # Source
//! `worker.md` § 2.9. Beside the weights named there stand those of the first publisher, which draw
//! the same and are what most people have.

/// What of a source is looked at.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[expect(missing_docs, reason = "the table below gives each its public name")]
pub enum ControlType {
    Canny,
    PyraCanny,
    Hed,
    Pidinet,
    Teed,
    Depth,
    MidasDepth,
    ZoeDepth,
    DepthAnything,
    DepthAnythingV2,
    Normal,
    NormalBae,
    Openpose,
    Seg,
    OneformerAde20k,
    OneformerCoco,
    Scribble,
    Binary,
    ScribbleXdog,
    ScribblePidinet,
    FakeScribbles,
    Hough,
    Mlsd,
    StandardLineart,
    Lineart,
    LineartAnime,
    LineartAnimeDenoise,
    RecolorLuminance,
    RecolorIntensity,
    Tile,
    TileTtplanetGuided,
    TileTtplanetSimple,
}

const DIFF_CONTROL_SD15_CANNY: &[&str] = &["diff_control_sd15_canny", "control_v11p_sd15_canny"];
const DIFF_CONTROL_SD15_HED: &[&str] = &["diff_control_sd15_hed", "control_v11p_sd15_softedge"];
const DIFF_CONTROL_SD15_DEPTH: &[&str] = &["diff_control_sd15_depth", "control_v11f1p_sd15_depth"];
const CONTROL_NORMAL: &[&str] = &["control_normal", "control_sd15_normal"];
const CONTROL_V11P_SD15_NORMALBAE: &[&str] = &["control_v11p_sd15_normalbae"];
const CONTROL_OPENPOSE: &[&str] = &["control_openpose", "control_v11p_sd15_openpose"];
const CONTROL_SEG: &[&str] = &["control_seg", "control_v11p_sd15_seg"];
const CONTROL_SCRIBBLE: &[&str] = &["control_scribble", "control_v11p_sd15_scribble"];
const CONTROL_MLSD: &[&str] = &["control_mlsd", "control_v11p_sd15_mlsd"];
const CONTROL_V11P_SD15_LINEART: &[&str] = &["control_v11p_sd15_lineart"];
const CONTROL_V11P_SD15S2_LINEART_ANIME: &[&str] = &["control_v11p_sd15s2_lineart_anime"];
const IOCLAB_SD15_RECOLOR: &[&str] = &["ioclab_sd15_recolor"];
const CONTROL_V11F1E_SD15_TILE: &[&str] = &["control_v11f1e_sd15_tile"];

type Row = (
    ControlType,
    &'static str,
    &'static str,
    &'static [&'static str],
);

/// Each type: its public name, the node that looks at the source, and the stems of files whose
/// weights steer, best first.
const TABLE: [Row; 32] = [
    (
        ControlType::Canny,
        "canny",
        "CannyEdgePreprocessor",
        DIFF_CONTROL_SD15_CANNY,
    ),
    (
        ControlType::PyraCanny,
        "pyracanny",
        "PyraCannyPreprocessor",
        DIFF_CONTROL_SD15_CANNY,
    ),
    (
        ControlType::Hed,
        "hed",
        "HEDPreprocessor",
        DIFF_CONTROL_SD15_HED,
    ),
    (
        ControlType::Pidinet,
        "pidinet",
        "PiDiNetPreprocessor",
        DIFF_CONTROL_SD15_HED,
    ),
    (
        ControlType::Teed,
        "teed",
        "TEEDPreprocessor",
        DIFF_CONTROL_SD15_HED,
    ),
    (
        ControlType::Depth,
        "depth",
        "LeReS-DepthMapPreprocessor",
        DIFF_CONTROL_SD15_DEPTH,
    ),
    (
        ControlType::MidasDepth,
        "midas_depth",
        "MiDaS-DepthMapPreprocessor",
        DIFF_CONTROL_SD15_DEPTH,
    ),
    (
        ControlType::ZoeDepth,
        "zoe_depth",
        "Zoe-DepthMapPreprocessor",
        DIFF_CONTROL_SD15_DEPTH,
    ),
    (
        ControlType::DepthAnything,
        "depth_anything",
        "DepthAnythingPreprocessor",
        DIFF_CONTROL_SD15_DEPTH,
    ),
    (
        ControlType::DepthAnythingV2,
        "depth_anything_v2",
        "DepthAnythingV2Preprocessor",
        DIFF_CONTROL_SD15_DEPTH,
    ),
    (
        ControlType::Normal,
        "normal",
        "MiDaS-NormalMapPreprocessor",
        CONTROL_NORMAL,
    ),
    (
        ControlType::NormalBae,
        "normal_bae",
        "BAE-NormalMapPreprocessor",
        CONTROL_V11P_SD15_NORMALBAE,
    ),
    (
        ControlType::Openpose,
        "openpose",
        "OpenposePreprocessor",
        CONTROL_OPENPOSE,
    ),
    (
        ControlType::Seg,
        "seg",
        "UniFormer-SemSegPreprocessor",
        CONTROL_SEG,
    ),
    (
        ControlType::OneformerAde20k,
        "oneformer_ade20k",
        "OneFormer-ADE20K-SemSegPreprocessor",
        CONTROL_SEG,
    ),
    (
        ControlType::OneformerCoco,
        "oneformer_coco",
        "OneFormer-COCO-SemSegPreprocessor",
        CONTROL_SEG,
    ),
    (
        ControlType::Scribble,
        "scribble",
        "ScribblePreprocessor",
        CONTROL_SCRIBBLE,
    ),
    (
        ControlType::Binary,
        "binary",
        "BinaryPreprocessor",
        CONTROL_SCRIBBLE,
    ),
    (
        ControlType::ScribbleXdog,
        "scribble_xdog",
        "Scribble_XDoG_Preprocessor",
        CONTROL_SCRIBBLE,
    ),
    (
        ControlType::ScribblePidinet,
        "scribble_pidinet",
        "Scribble_PiDiNet_Preprocessor",
        CONTROL_SCRIBBLE,
    ),
    (
        ControlType::FakeScribbles,
        "fakescribbles",
        "FakeScribblePreprocessor",
        CONTROL_SCRIBBLE,
    ),
    (
        ControlType::Hough,
        "hough",
        "M-LSDPreprocessor",
        CONTROL_MLSD,
    ),
    (ControlType::Mlsd, "mlsd", "M-LSDPreprocessor", CONTROL_MLSD),
    (
        ControlType::StandardLineart,
        "standard_lineart",
        "LineartStandardPreprocessor",
        CONTROL_V11P_SD15_LINEART,
    ),
    (
        ControlType::Lineart,
        "lineart",
        "LineArtPreprocessor",
        CONTROL_V11P_SD15_LINEART,
    ),
    (
        ControlType::LineartAnime,
        "lineart_anime",
        "AnimeLineArtPreprocessor",
        CONTROL_V11P_SD15S2_LINEART_ANIME,
    ),
    (
        ControlType::LineartAnimeDenoise,
        "lineart_anime_denoise",
        "Manga2Anime_LineArt_Preprocessor",
        CONTROL_V11P_SD15S2_LINEART_ANIME,
    ),
    (
        ControlType::RecolorLuminance,
        "recolor_luminance",
        "ImageLuminanceDetector",
        IOCLAB_SD15_RECOLOR,
    ),
    (
        ControlType::RecolorIntensity,
        "recolor_intensity",
        "ImageIntensityDetector",
        IOCLAB_SD15_RECOLOR,
    ),
    (
        ControlType::Tile,
        "tile",
        "TilePreprocessor",
        CONTROL_V11F1E_SD15_TILE,
    ),
    (
        ControlType::TileTtplanetGuided,
        "tile_ttplanet_guided",
        "TTPlanet_TileGF_Preprocessor",
        CONTROL_V11F1E_SD15_TILE,
    ),
    (
        ControlType::TileTtplanetSimple,
        "tile_ttplanet_simple",
        "TTPlanet_TileSimple_Preprocessor",
        CONTROL_V11F1E_SD15_TILE,
    ),
];

impl ControlType {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// The type of a public name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let found = TABLE.iter().find(|row| row.1.eq_ignore_ascii_case(name));
        found.map(|row| row.0)
    }

    fn row(self) -> &'static Row {
        TABLE.iter().find(|row| row.0 == self).unwrap_or(&TABLE[0])
    }

    /// Its public name.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The class of the node that looks at the source.
    pub fn preprocessor(self) -> &'static str {
        self.row().2
    }

    /// Stems of files whose weights steer Stable Diffusion 1.x, best first.
    pub fn weights(self) -> &'static [&'static str] {
        self.row().3
    }

    /// Whether every worker that can steer is expected to know it.
    #[must_use]
    pub fn is_classic(self) -> bool {
        matches!(
            self,
            Self::Canny
                | Self::Hed
                | Self::Depth
                | Self::Normal
                | Self::Openpose
                | Self::Seg
                | Self::Scribble
                | Self::FakeScribbles
                | Self::Hough
        )
    }
}

/// Whether weights of this file name are a difference to those of the model they are used with.
#[must_use]
pub fn is_difference(file: &str) -> bool {
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
    name.starts_with("diff_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_type() {
        for kind in ControlType::all() {
            assert_eq!(ControlType::from_name(kind.name()), Some(kind));
            assert!(!kind.weights().is_empty());
        }
        assert_eq!(ControlType::from_name("CANNY"), Some(ControlType::Canny));
        assert_eq!(ControlType::from_name("no such"), None);
        assert_eq!(
            ControlType::all().filter(|kind| kind.is_classic()).count(),
            9
        );
    }

    #[test]
    fn differences_are_known_by_their_names() {
        assert!(is_difference(
            "sd1/diff_control_sd15_canny_fp16.safetensors"
        ));
        assert!(!is_difference("control_v11p_sd15_canny.safetensors"));
    }
}
