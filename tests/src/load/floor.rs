//! The floor: the same bytes to as many sockets, without a protocol, without a log, without anybody who answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinSet;

use super::arrivals::{self, Arrivals};

/// Connections opened before a pause, which lets the other side take them.
const CONNECTS_AT_ONCE: usize = 200;
/// That pause.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);
/// Pushes that a task may be behind.
const PUSHES_KEPT: usize = 16;

/// How the floor writes to its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Each socket has a task that is woken, as servers are built.
    Tasks,
    /// One loop writes to one socket after the other: nothing can be faster.
    Loop,
}

impl Manner {
    fn command(self) -> u8 {
        match self {
            Manner::Tasks => b't',
            Manner::Loop => b'l',
        }
    }
}

/// The floor's server: the first connection commands, all others receive so many bytes per command. Ends when the
/// first one does.
///
/// # Errors
/// What the system says.
pub async fn serve_floor(listener: TcpListener, bytes: usize) -> std::io::Result<()> {
    let bytes: Arc<[u8]> = vec![b'x'; bytes].into();
    let pushes = broadcast::Sender::<Arc<[u8]>>::new(PUSHES_KEPT);
    let (mut commands, _) = listener.accept().await?;
    let mut sockets = Vec::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (socket, _) = accepted?;
                socket.set_nodelay(true)?;
                let socket = Arc::new(socket);
                sockets.push(Arc::clone(&socket));
                tokio::spawn(receive_and_write(pushes.subscribe(), socket));
            }
            command = commands.read_u8() => match command {
                Ok(command) if command == Manner::Loop.command() => {
                    for socket in &sockets {
                        write_all(socket, &bytes).await?;
                    }
                }
                // Without receivers there is nothing to measure, which the other side notices.
                Ok(_) => drop(pushes.send(Arc::clone(&bytes))),
                Err(_) => return Ok(()),
            },
        }
    }
}

async fn receive_and_write(mut pushes: broadcast::Receiver<Arc<[u8]>>, socket: Arc<TcpStream>) {
    while let Ok(bytes) = pushes.recv().await {
        if write_all(&socket, &bytes).await.is_err() {
            return;
        }
    }
}

async fn write_all(socket: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match socket.try_write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => socket.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The receivers of a floor.
#[derive(Debug)]
pub(super) struct FloorCrowd {
    arrivals: Arc<Arrivals>,
    commands: TcpStream,
    pushes: u64,
    _receivers: JoinSet<()>,
}

impl FloorCrowd {
    /// Connects so many sockets to a floor that sends so many bytes at a time.
    ///
    /// # Errors
    /// What the system says.
    pub(super) async fn connect(port: u16, sockets: usize, bytes: usize) -> Result<FloorCrowd, String> {
        let broke = |error: std::io::Error| format!("the floor is not reached: {error}");
        let connect = async || TcpStream::connect(("127.0.0.1", port)).await;
        let commands = connect().await.map_err(broke)?;
        commands.set_nodelay(true).map_err(broke)?;
        let arrivals = Arc::new(Arrivals::of(sockets));
        let mut receivers = JoinSet::new();
        for number in 0..sockets {
            let socket = connect().await.map_err(broke)?;
            receivers.spawn(receive(socket, bytes, Arc::clone(&arrivals)));
            if number % CONNECTS_AT_ONCE == CONNECTS_AT_ONCE - 1 {
                tokio::time::sleep(CONNECT_PAUSE).await;
            }
        }
        arrivals.all_ready(Duration::ZERO).await?;
        Ok(FloorCrowd { arrivals, commands, pushes: 0, _receivers: receivers })
    }

    /// One push: when it was asked for, and when each socket had it, in order.
    ///
    /// # Errors
    /// What went wrong.
    pub(super) async fn push(&mut self, manner: Manner) -> Result<(Instant, Vec<Instant>), String> {
        self.pushes += 1;
        let sent = Instant::now();
        let broke = |error: std::io::Error| format!("the floor has ended: {error}");
        self.commands.write_u8(manner.command()).await.map_err(broke)?;
        Ok((sent, self.arrivals.all_received(self.pushes).await?))
    }
}

async fn receive(mut socket: TcpStream, bytes: usize, arrivals: Arc<Arrivals>) {
    arrivals.ready();
    let (mut have, mut push) = (0, 0);
    loop {
        let read = std::future::poll_fn(|context| {
            arrivals::with_scratch(|scratch| {
                arrivals::poll_read(&mut socket, context, scratch).map(|read| read.map(<[u8]>::len))
            })
        });
        match read.await {
            Ok(length) => have += length,
            Err(why) => return arrivals.wrong(format!("the floor: {why}")),
        }
        while have >= bytes {
            have -= bytes;
            push += 1;
            arrivals.received(push);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_socket_gets_every_push_in_either_manner() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let floor = tokio::spawn(serve_floor(listener, 500));
        let mut crowd = FloorCrowd::connect(port, 5, 500).await.expect("connected");
        for manner in [Manner::Tasks, Manner::Loop, Manner::Tasks] {
            let (sent, times) = crowd.push(manner).await.expect("all have it");
            assert!(times.len() == 5 && times.iter().all(|time| *time > sent), "{manner:?}");
        }
        drop(crowd);
        floor.await.expect("it does not panic").expect("it ends when the commands do");
    }
}
