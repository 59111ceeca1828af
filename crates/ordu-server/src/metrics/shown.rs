//! All that Prometheus is shown.

use ordu_api::worker::WorkKind;

use super::Page;
use crate::app::App;

impl App {
    /// All numbers, as Prometheus reads them.
    pub(crate) async fn show_metrics(&self) -> String {
        let mut page = Page::default();
        page.answers(&self.metrics.read());
        self.show_load(&mut page);
        self.show_doors(&mut page);
        self.show_store(&mut page);
        self.show_traffic(&mut page);
        self.show_webhooks(&mut page).await;
        self.show_horde(&mut page);
        self.show_jobs(&mut page);
        self.show_nodes(&mut page);
        process(&mut page);
        page.0
    }

    fn show_load(&self, page: &mut Page) {
        page.gauge("ordu_http_active", "Requests in flight.", self.active());
        page.gauge(
            "ordu_http_busy",
            "Requests in flight that do not only wait for something to happen.",
            self.load.busy(),
        );
        page.gauge(
            "ordu_http_body_bytes",
            "What the bodies of requests in flight hold.",
            self.load.body_bytes(),
        );
        page.gauge(
            "ordu_http_bodies",
            "Bodies of requests that have not come to their end.",
            self.load.bodies(),
        );
        page.sum(
            "ordu_http_shed_total",
            "Requests that were sent away because there was too much in hand.",
            self.load.shed(),
        );
    }

    fn show_doors(&self, page: &mut Page) {
        let doors = &self.load.doors;
        page.gauge(
            "ordu_connections",
            "Connections that are open.",
            doors.open(),
        );
        page.gauge(
            "ordu_connections_limit",
            "The most connections that may be open.",
            self.load.most().connections,
        );
        page.gauge(
            "ordu_connections_mute",
            "Open connections on which no request has been read yet.",
            doors.mute(),
        );
        page.sum(
            "ordu_connections_failed_total",
            "Connections that ended badly: what was said was no request, or nobody waited for the answer.",
            doors.failed(),
        );
    }

    fn show_store(&self, page: &mut Page) {
        let counters = self.store.counters();
        page.sum(
            "ordu_store_round_trips_total",
            "Statements sent to the database, for whatever purpose.",
            counters.round_trips,
        );
        page.sum(
            "ordu_store_commits_total",
            "Commits that writes shared.",
            counters.commits,
        );
        page.sum(
            "ordu_store_writes_total",
            "Writes that shared commits.",
            counters.grouped_writes,
        );
        page.gauge(
            "ordu_store_largest_group_writes",
            "The most writes that shared a commit.",
            counters.largest_group,
        );
        page.sum(
            "ordu_store_split_batches_total",
            "Batches that failed and were repeated write by write.",
            counters.split_batches,
        );
        page.sum(
            "ordu_store_unavailable_writes_total",
            "Writes that failed because the database was away or full.",
            counters.unavailable,
        );
        page.sum(
            "ordu_store_behind_rows_total",
            "Rows that were written behind.",
            counters.written_behind,
        );
        let about = "Kudos that came from nowhere, once they are in balances.";
        page.head("ordu_kudos_minted_total", "counter", about);
        page.sample("ordu_kudos_minted_total", "", counters.minted);
        let about = "Kudos that were given up for good, once they are out of balances.";
        page.head("ordu_kudos_burnt_total", "counter", about);
        page.sample("ordu_kudos_burnt_total", "", counters.burnt);
    }

    fn show_traffic(&self, page: &mut Page) {
        let traffic = self.traffic();
        page.sum(
            "ordu_limits_refused_total",
            "Requests of who asked too often.",
            traffic.limited,
        );
        page.sum(
            "ordu_limits_forgotten_total",
            "Clients whose use of a limit was forgotten too early.",
            traffic.limits_forgotten,
        );
        page.sum(
            "ordu_keys_refused_total",
            "Keys turned away after too many wrong ones.",
            traffic.keys_refused,
        );
        page.sum(
            "ordu_webhooks_delivered_total",
            "Webhook messages that arrived.",
            traffic.webhooks_delivered,
        );
        page.sum(
            "ordu_webhooks_failed_total",
            "Attempts to deliver a webhook message that failed.",
            traffic.webhooks_failed,
        );
        page.sum(
            "ordu_webhooks_dropped_total",
            "Webhook messages that were given up.",
            traffic.webhooks_dropped,
        );
    }

    async fn show_webhooks(&self, page: &mut Page) {
        // A number that nobody knows is left out: the rest matters most while the database is away.
        if let Ok(waiting) = self.store.count_webhooks().await {
            let about = "Webhook messages that are not delivered yet, of all nodes.";
            page.gauge("ordu_webhooks_waiting", about, waiting);
        }
    }

    fn show_horde(&self, page: &mut Page) {
        let now = self.clock.now();
        let traffic = WorkKind::ALL.map(|kind| {
            let traffic = self.live().horde.traffic(kind, now);
            (format!("kind=\"{}\"", kind.name()), traffic)
        });
        let name = "ordu_results_waiting";
        page.head(name, "gauge", "Results that no worker has, by kind.");
        for (kind, traffic) in &traffic {
            page.sample(name, kind, traffic.waiting);
        }
        let name = "ordu_jobs_running";
        page.head(name, "gauge", "Results that a worker has, by kind.");
        for (kind, traffic) in &traffic {
            page.sample(name, kind, traffic.running);
        }
        let name = "ordu_workers_online";
        page.head(name, "gauge", "Workers that are online, by kind.");
        for (kind, traffic) in &traffic {
            page.sample(name, kind, traffic.workers);
        }
        self.show_queue(page);
    }

    fn show_queue(&self, page: &mut Page) {
        let name = "ordu_model_results_waiting";
        let about = "Results that no worker has, by each model that was named; models that the \
                     reference does not know are one, without a name.";
        page.head(name, "gauge", about);
        for kind in WorkKind::ALL {
            let waiting = self.live().horde.waiting_by_model(kind);
            for (model, results) in waiting {
                let model = escaped(&model.unwrap_or_default());
                let labels = format!("kind=\"{}\",model=\"{model}\"", kind.name());
                page.sample(name, &labels, results);
            }
        }
    }

    fn show_jobs(&self, page: &mut Page) {
        let name = "ordu_jobs_total";
        page.head(name, "counter", "Jobs by what became of them.");
        for (outcome, count) in self.jobs.read() {
            let outcome = format!("outcome=\"{}\"", outcome.name());
            page.sample(name, &outcome, count);
        }
    }

    /// Only of one among several.
    fn show_nodes(&self, page: &mut Page) {
        let Some(nodes) = self.nodes.status() else {
            return;
        };
        page.gauge("ordu_nodes_alive", "Nodes that live.", nodes.alive.len());
        page.gauge(
            "ordu_node_leads",
            "Whether this node does what must happen once.",
            u8::from(nodes.leads),
        );
        page.sum(
            "ordu_claims_won_total",
            "Claims of jobs that this node won.",
            nodes.claims_won,
        );
        page.sum(
            "ordu_claims_lost_total",
            "Claims of jobs that another node was faster with.",
            nodes.claims_lost,
        );
        page.gauge(
            "ordu_head_start_milliseconds",
            "How long this node leaves the requests of others to them.",
            nodes.head_start_ms,
        );
        page.sum(
            "ordu_node_changes_read_total",
            "Changes of other nodes that were read.",
            nodes.changes,
        );
        page.gauge(
            "ordu_node_behind_milliseconds",
            "How old the oldest change of the last look was.",
            nodes.lag_ms,
        );
    }
}

/// What the process holds, under the names that Prometheus' own clients use; only where the system
/// says.
fn process(page: &mut Page) {
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // The folder that is being read is one of them.
        let open = open.count().saturating_sub(1);
        page.gauge("process_open_fds", "Files and connections open.", open);
    }
    let held = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = held.and_then(|held| held.split(' ').nth(1)?.parse::<usize>().ok());
    if let Some(pages) = pages {
        let bytes = pages.saturating_mul(rustix::param::page_size());
        let about = "Memory that the process holds.";
        page.gauge("process_resident_memory_bytes", about, bytes);
    }
}

/// A text as the value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_hold_any_name() {
        assert_eq!(escaped("a \"b\" \\ c\nd"), r#"a \"b\" \\ c\nd"#);
    }
}
