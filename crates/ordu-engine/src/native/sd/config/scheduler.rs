//! Numbers of the noise a model was trained with.

use serde::Deserialize;

use crate::{EngineError, Prediction};

/// `scheduler/scheduler_config.json`: the noise the model was trained with.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct SchedulerConfig {
    /// Noise levels in training.
    #[serde(default = "thousand")]
    pub num_train_timesteps: usize,
    /// Variance added at the first level.
    #[serde(default = "beta_start")]
    pub beta_start: f64,
    /// Variance added at the last level.
    #[serde(default = "beta_end")]
    pub beta_end: f64,
    /// How the levels between are spaced.
    #[serde(default = "scaled_linear")]
    pub beta_schedule: String,
    /// What the network predicts.
    #[serde(default = "epsilon_name")]
    pub prediction_type: String,
    /// Whether the last level is pure noise (Lin et al. 2023).
    #[serde(default)]
    pub rescale_betas_zero_snr: bool,
    /// From which end time steps are counted when there are fewer than in training.
    #[serde(default)]
    pub timestep_spacing: Option<String>,
}

fn thousand() -> usize {
    1000
}
fn beta_start() -> f64 {
    0.00085
}
fn beta_end() -> f64 {
    0.012
}
fn scaled_linear() -> String {
    "scaled_linear".to_owned()
}
fn epsilon_name() -> String {
    "epsilon".to_owned()
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            num_train_timesteps: thousand(),
            beta_start: beta_start(),
            beta_end: beta_end(),
            beta_schedule: scaled_linear(),
            prediction_type: epsilon_name(),
            rescale_betas_zero_snr: false,
            timestep_spacing: None,
        }
    }
}

impl SchedulerConfig {
    /// What the network predicts.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] for kinds that are not built.
    pub fn prediction(&self) -> Result<Prediction, EngineError> {
        match self.prediction_type.as_str() {
            "epsilon" => Ok(Prediction::Epsilon),
            "v_prediction" => Ok(Prediction::Velocity),
            other => Err(EngineError::bad_model(
                "scheduler",
                format!("unknown prediction `{other}`"),
            )),
        }
    }
}
