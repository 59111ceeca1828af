//! A wire to PostgreSQL that can be cut without either end noticing, keep what is sent for a while, or take
//! no answers back.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Wire {
    /// The address of the database at the other end.
    pub url: String,
    state: watch::Sender<State>,
    /// How many pieces were ever held.
    held: watch::Receiver<u64>,
    _listening: JoinSet<()>,
}

/// What becomes of what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    /// It arrives later.
    Held,
    /// It never arrives.
    Cut,
    /// Questions arrive; with the first bit of an answer the connection ends.
    Deaf,
}

impl Wire {
    /// Leads to the database at `url`, which names a host.
    ///
    /// # Errors
    /// The address names none, or no port is free.
    pub async fn begin(url: &str) -> io::Result<Self> {
        let place = url
            .split_once('@')
            .and_then(|(_, rest)| rest.split_once('/'));
        let (target, _) = place.ok_or(io::ErrorKind::InvalidInput)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let here = listener.local_addr()?.to_string();
        let (state, seen) = watch::channel(State::Whole);
        let (hold, held) = watch::channel(0);
        let mut listening = JoinSet::new();
        listening.spawn(listen(listener, target.to_owned(), (seen, hold)));
        Ok(Self {
            url: url.replace(target, &here),
            state,
            held,
            _listening: listening,
        })
    }

    /// From now on nothing comes through.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// From now on nothing comes through until this is mended, and then all of it. Waits until there is
    /// something.
    pub async fn hold(&self) {
        let mut held = self.held.clone();
        let before = *held.borrow_and_update();
        self.state.send_replace(State::Held);
        // It only fails when nothing comes through any more.
        drop(held.wait_for(|held| *held > before).await);
    }

    /// From now on what is sent arrives, and connections end when it is answered.
    pub fn deafen(&self) {
        self.state.send_replace(State::Deaf);
    }

    /// New connections come through again, and what was held; those that lost something hang for ever.
    pub fn mend(&self) {
        self.state.send_replace(State::Whole);
    }
}

/// What becomes of what is sent, and where it is counted.
type Ends = (watch::Receiver<State>, watch::Sender<u64>);

async fn listen(listener: TcpListener, target: String, ends: Ends) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let (target, ends) = (target.clone(), ends.clone());
        connections.spawn(async move {
            let Ok(far) = TcpStream::connect(target).await else {
                return;
            };
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            // When one way ends so does the other, and with them the connections.
            tokio::select! {
                () = carry(near_read, far_write, |_| true, &ends) => {}
                () = carry(far_read, near_write, |state| state != State::Deaf, &ends) => {}
            }
        });
    }
}

/// Carries one way until its end, or until something comes that does not come through.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    comes_through: fn(State) -> bool,
    (state, held): &Ends,
) {
    let (mut piece, mut state) = (vec![0; 65_536], state.clone());
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        if *state.borrow() == State::Held {
            held.send_modify(|held| *held += 1);
        }
        let flows = state.wait_for(|state| *state != State::Held).await;
        let Ok(state) = flows.map(|state| *state) else {
            return;
        };
        if state == State::Cut {
            std::future::pending::<()>().await;
        }
        let Some(sent) = piece.get(..length).filter(|_| comes_through(state)) else {
            return;
        };
        if to.write_all(sent).await.is_err() {
            return;
        }
    }
}
