//! What happens to the horde.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;
use tokio::time::sleep;

use super::cluster::Cluster;
use super::link::{FAIR, SILENT, Weather};
use super::load::Load;
use super::slow::{MANNERS, Manner, crowd};

/// Within which the horde answers others while somebody is slow.
const ANSWER: Duration = Duration::from_secs(10);

/// How many of the silences are long ones.
const LONG_SILENCES: f64 = 0.3;

/// One thing that goes wrong, and passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A node ends at once, and is started again.
    Kill,
    /// A node ends at once, and stays away until another one leads.
    Lost,
    /// The database ends at once, and is started again.
    KillDatabase,
    /// The workers vanish with the jobs that they have.
    KillWorkers,
    /// There is no room on the disk.
    FullDisk,
    /// The database is far away.
    Distance(Duration),
    /// The database cannot be heard.
    Silence,
    /// One of several nodes cannot hear it.
    Apart,
    /// Every connection to the database breaks.
    Cut,
    /// The clock jumps by so many seconds, and back.
    Clock(i64),
    /// Clients behave badly.
    Crowd(Manner),
}

/// What can happen on one machine.
pub(crate) fn of_sqlite() -> Vec<Fault> {
    let mut faults = vec![
        Fault::Kill,
        Fault::Kill,
        Fault::KillWorkers,
        Fault::FullDisk,
        Fault::Clock(300),
        Fault::Clock(-300),
    ];
    faults.extend(MANNERS.map(Fault::Crowd));
    faults
}

/// What can happen with a database elsewhere.
pub(crate) fn of_postgres() -> Vec<Fault> {
    let mut faults = of_sqlite();
    faults.extend([
        Fault::KillDatabase,
        Fault::KillDatabase,
        Fault::Distance(Duration::from_millis(25)),
        Fault::Distance(Duration::from_millis(250)),
        Fault::Silence,
        Fault::Apart,
        Fault::Cut,
    ]);
    faults
}

/// What can happen to two nodes.
pub(crate) fn of_two() -> Vec<Fault> {
    let mut faults = of_postgres();
    faults.extend([Fault::Lost, Fault::Lost]);
    faults
}

impl Fault {
    /// Lets it happen, and pass.
    ///
    /// # Errors
    /// What the horde did not bear.
    pub(crate) async fn strike(
        self,
        cluster: &mut Cluster,
        load: &mut Load,
        dice: &mut ChaCha12Rng,
    ) -> Result<(), String> {
        let long = Duration::from_millis(dice.random_range(100..1500));
        // Silence has every length, also such that calls are given up, and nodes take each other for dead.
        let silence = if dice.random_bool(LONG_SILENCES) {
            Duration::from_millis(dice.random_range(1500..20_000))
        } else {
            long
        };
        match self {
            Self::Kill => {
                let place = dice.random_range(0..cluster.count());
                cluster.kill(place);
                sleep(long / 4).await;
                cluster.revive();
            }
            Self::Lost => {
                let place = dice.random_range(0..cluster.count());
                cluster.kill(place);
                let led = cluster.led_without(place, ANSWER).await;
                cluster.revive();
                led?;
            }
            Self::KillDatabase => {
                if let Some(postgres) = &mut cluster.postgres {
                    postgres.kill();
                    sleep(long / 4).await;
                    postgres.revive();
                }
                cluster.reconnect();
            }
            Self::KillWorkers => load.hire(),
            Self::FullDisk => full_disk(cluster, long).await,
            Self::Distance(delay) => {
                let far = Weather { delay, ..FAIR };
                under(cluster, far, long.max(delay * 8)).await;
            }
            Self::Silence => under(cluster, SILENT, silence).await,
            Self::Apart => {
                let place = dice.random_range(0..cluster.count());
                if let Some(link) = cluster.links().nth(place) {
                    link.set(SILENT);
                    sleep(silence).await;
                    link.set(FAIR);
                }
            }
            Self::Cut => {
                for link in cluster.links() {
                    link.cut();
                }
            }
            Self::Clock(seconds) => {
                cluster.set_clock(seconds);
                // The library looks at its file once a second.
                sleep(Duration::from_secs(1) + long).await;
                cluster.set_clock(0);
            }
            Self::Crowd(manner) => {
                let _crowd = crowd(manner, cluster.address());
                sleep(long).await;
                answers(cluster).await?;
            }
        }
        Ok(())
    }
}

/// SQLite's server stays and says no; PostgreSQL may end, and an operator starts it again.
async fn full_disk(cluster: &mut Cluster, long: Duration) {
    if !cluster.disk.can_be_full() {
        return;
    }
    cluster.disk.fill();
    sleep(long).await;
    cluster.disk.empty();
    if let Some(postgres) = &mut cluster.postgres {
        postgres.revive();
    }
    cluster.reconnect();
}

async fn under(cluster: &Cluster, weather: Weather, long: Duration) {
    for link in cluster.links() {
        link.set(weather);
    }
    sleep(long).await;
    for link in cluster.links() {
        link.set(FAIR);
    }
}

/// Others are served although somebody behaves badly.
async fn answers(cluster: &Cluster) -> Result<(), String> {
    let url = format!("http://{}/api/v2/status/heartbeat", cluster.address());
    let asked = Instant::now();
    let answer = reqwest::Client::new().get(url).timeout(ANSWER).send().await;
    match answer {
        Ok(answer) if answer.status().is_success() => Ok(()),
        other => Err(format!("no answer for {:?}: {other:?}", asked.elapsed())),
    }
}
