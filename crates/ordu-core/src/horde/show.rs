//! The horde as text, for tests and for people who debug.
//!
//! Structs are taken apart by name, so that a new field does not compile until somebody decides
//! how it is shown.

use std::fmt;

use super::{Entry, Horde, Job, JobState, Worker};

impl fmt::Display for Horde {
    /// Waiting requests in the order of the queue, then the others, then jobs and workers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            requests,
            jobs,
            queues,
            workers,
            pending,
            reference: _,
            policy: _,
            deadlines: _,
            expiries: _,
            hopeless: _,
            recent: _,
            sequence: _,
            by_user: _,
            trouble: _,
            neighbours: _,
            head_start: _,
            behind: _,
            changes: _,
        } = self;
        let waiting: Vec<_> = ordu_api::worker::WorkKind::ALL
            .into_iter()
            .flat_map(|kind| queues.of(kind).in_order())
            .map(|item| item.request)
            .collect();
        for entry in waiting.iter().filter_map(|id| requests.get(id)) {
            writeln!(f, "{entry}")?;
        }
        for (_, entry) in requests.iter().filter(|(id, _)| !waiting.contains(id)) {
            writeln!(f, "{entry}")?;
        }
        for job in jobs.values() {
            let settling = if pending.contains_key(&job.id) {
                " settling"
            } else {
                ""
            };
            writeln!(f, "{job}{settling}")?;
        }
        for worker in workers.all() {
            writeln!(f, "{worker}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            request,
            open,
            asked,
            running,
            finished,
            faults,
            kudos,
            faulted,
            cancelled: _,
            turn: _,
            kept_back_until: _,
            place: _,
            demand: _,
            base_price: _,
            jobs: _,
            expires,
            verdict: _,
            counted: _,
        } = self;
        write!(f, "request {} ", short(&request.id))?;
        write!(
            f,
            "user={} open={}/{asked} running={running} ",
            request.requester.user,
            open.count()
        )?;
        write!(f, "finished={finished} faults={faults} kudos={kudos} ")?;
        write!(f, "expires={}s", expires.seconds())?;
        if *faulted {
            write!(f, " faulted")?;
        }
        Ok(())
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id: _,
            request,
            slot: _,
            worker_name,
            owner: _,
            worker: _,
            model,
            kudos,
            reward_percent,
            validated: _,
            things: _,
            assigned,
            deadline,
            decoy,
            state,
            blame: _,
        } = self;
        let what = if *decoy { "decoy" } else { "job" };
        write!(
            f,
            "{what} of {} by {worker_name} model={model} ",
            short(request)
        )?;
        match kudos {
            Some(kudos) => write!(f, "kudos={kudos}×{reward_percent}% ")?,
            None => write!(f, "kudos=? ")?,
        }
        write!(f, "{}s…{}s ", assigned.seconds(), deadline.seconds())?;
        match state {
            JobState::Running => write!(f, "running"),
            JobState::Done(delivered) if delivered.censored => write!(f, "censored"),
            JobState::Done(_) => write!(f, "done"),
            JobState::Faulted => write!(f, "faulted"),
        }
    }
}

impl fmt::Display for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            record,
            offer: _,
            capacity: _,
            outdated: _,
            withheld,
            excuses: _,
            excuses_since: _,
            stored: _,
        } = self;
        write!(
            f,
            "worker {} seen={}s ",
            record.name,
            record.checked_in.seconds()
        )?;
        write!(
            f,
            "uptime={}s done={} ",
            record.uptime.0 / 1000,
            record.fulfilled
        )?;
        let (dropped, lately) = (record.uncompleted, record.drops);
        write!(f, "dropped={dropped} ({lately} lately) ")?;
        write!(
            f,
            "kudos={}+{}",
            record.kudos_generated, record.kudos_uptime
        )?;
        if record.maintenance.is_some() {
            write!(f, " maintenance")?;
        }
        if record.paused {
            write!(f, " paused decoys={}", withheld.len())?;
        }
        Ok(())
    }
}

/// The last digits of an id: enough to tell a test's requests apart.
fn short(id: &impl fmt::Display) -> String {
    let text = id.to_string();
    let digits = text.rsplit('-').next().unwrap_or_default();
    let short = digits.trim_start_matches('0');
    if short.is_empty() { "0" } else { short }.to_owned()
}
