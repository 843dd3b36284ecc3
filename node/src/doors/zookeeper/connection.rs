//! One connection: a socket, a line to a voter, and the conversation between them.

use std::net::SocketAddr;
use std::time::Duration;

use foreshore::coord::serve::talk::{Ask, Tell};
use foreshore::coord::session::{MAX_TTL_MS, MIN_TTL_MS, PASSWORD_LEN, SessionId};
use foreshore::peer::coord::{Identity, Line};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::figures::Place;
use super::request::Connect;
use super::talk::{End, Talk};
use super::{Inner, MAX_FRAME_BYTES, MAX_OUT_BYTES, reply, words};

/// How long a client may take to say what it wants, and the group to open or find its session.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the last answers may take to leave when a connection is closed from here.
const FAREWELL: Duration = Duration::from_secs(1);

/// Between two looks at what takes too long.
const LOOK: Duration = Duration::from_millis(500);

/// Bytes that are asked of the socket at once.
const READ_BYTES: usize = 16 << 10;

/// Longest first frame: numbers and a password.
const MAX_CONNECT_BYTES: usize = 1 << 10;

/// Serves a connection to its end.
pub(super) async fn serve(door: &Inner, mut stream: TcpStream, from: SocketAddr, stopped: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let place = door.figures.enter(from);
    let ended = tokio::select! {
        ended = converse(door, &mut stream, from, &place) => ended,
        () = until(stopped) => Ended::Quiet,
    };
    match ended {
        Ended::Quiet => {}
        Ended::Talk(End::Closed) => tracing::debug!(%from, "a ZooKeeper client closed its session"),
        Ended::Talk(why) => tracing::info!(%from, %why, "a ZooKeeper client is disconnected"),
        Ended::Refused(why) => tracing::info!(%from, %why, "a ZooKeeper client is not served"),
    }
    let _ = timeout(FAREWELL, stream.shutdown()).await;
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error: the door is gone.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// How a connection ended.
enum Ended {
    /// The client went, or a word was answered.
    Quiet,
    Talk(End),
    Refused(String),
}

impl From<std::io::Error> for Ended {
    fn from(_: std::io::Error) -> Self {
        Ended::Quiet
    }
}

impl From<End> for Ended {
    fn from(end: End) -> Self {
        Ended::Talk(end)
    }
}

async fn converse(door: &Inner, stream: &mut TcpStream, from: SocketAddr, place: &Place<'_>) -> Ended {
    match timeout(PATIENCE, first(door, stream)).await {
        Ok(Ok(Some(connect))) => match enter(door, stream, from, &connect, place).await {
            Ok((line, talk)) => match go_on(stream, &line, talk, place).await {
                Ok(never) => match never {},
                Err(ended) => ended,
            },
            Err(ended) => ended,
        },
        Ok(Ok(None)) => Ended::Quiet,
        Ok(Err(ended)) => ended,
        Err(_) => Ended::Refused("it says nothing".into()),
    }
}

/// The first frame. `None`: it was a four-letter word, which is answered.
async fn first(door: &Inner, stream: &mut TcpStream) -> Result<Option<Connect>, Ended> {
    let head = stream.read_u32().await?.to_be_bytes();
    if let Some(text) = words::answer(door, head).await {
        stream.write_all(text.as_bytes()).await?;
        return Ok(None);
    }
    let length = u32::from_be_bytes(head) as usize;
    if length > MAX_CONNECT_BYTES {
        return Err(Ended::Refused(format!("its first frame has {length} bytes")));
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    Connect::parse(&frame).map(Some).map_err(|why| Ended::Talk(End::Malformed(why)))
}

/// Opens the client's session, or attaches it.
async fn enter(
    door: &Inner,
    stream: &mut TcpStream,
    from: SocketAddr,
    connect: &Connect,
    place: &Place<'_>,
) -> Result<(Line, Talk), Ended> {
    let space = (door.space)().await.map_err(Ended::Refused)?;
    let line = space.line().await.map_err(|error| Ended::Refused(error.to_string()))?;
    let address = line.is_own().then(|| Identity::new("ip", &from.ip().to_canonical().to_string()));
    let mut asks = Vec::new();
    if let Some(address) = &address {
        let (scheme, secret) = (address.scheme.clone(), address.id.clone().into_bytes());
        asks.push(Ask::Authenticate { id: u64::MAX, scheme, secret });
    }
    let ttl_ms = u64::try_from(connect.timeout_ms).unwrap_or_default().clamp(MIN_TTL_MS, MAX_TTL_MS);
    let session = SessionId(connect.session.cast_unsigned());
    let with_read_only = connect.read_only.is_some();
    if connect.session == 0 {
        asks.push(Ask::Open { nonce: 0, ttl_ms });
    } else {
        // No password of another length is a session's.
        let Ok(password) = <[u8; PASSWORD_LEN]>::try_from(connect.password.as_slice()) else {
            stream.write_all(&reply::connected(0, 0, &[0; PASSWORD_LEN], with_read_only)).await?;
            return Err(Ended::Talk(End::Expired));
        };
        let seen = u64::try_from(connect.last_zxid).unwrap_or_default();
        asks.push(Ask::Attach { nonce: 0, session, password, seen });
    }
    line.say(asks);
    let entered = timeout(PATIENCE, async {
        loop {
            match line.next().await {
                Some(Tell::Opened { session, password, ttl_ms, zxid, .. }) => {
                    return Ok(Some((session, password.to_vec(), ttl_ms, 0, zxid)));
                }
                Some(Tell::Attached { next_seq, ttl_ms, zxid, .. }) => {
                    return Ok(Some((session, connect.password.clone(), ttl_ms, next_seq, zxid)));
                }
                Some(Tell::Failed { .. }) => return Ok(None),
                Some(Tell::Refused { why, of }) if of != foreshore::coord::serve::talk::Subject::Read(u64::MAX) => {
                    return Err(Ended::Talk(End::Refused(why)));
                }
                Some(_) => {}
                None => return Err(Ended::Refused("the line to the voter ended".into())),
            }
        }
    });
    let entered = entered.await.map_err(|_| Ended::Refused("no quorum opens its session".into()))??;
    let Some((session, password, ttl_ms, next_seq, zxid)) = entered else {
        // How ZooKeeper says that a session is over.
        stream.write_all(&reply::connected(0, 0, &[0; PASSWORD_LEN], with_read_only)).await?;
        return Err(Ended::Talk(End::Expired));
    };
    // A client that has seen what this group has not is of another group, or this one lost what it had.
    if u64::try_from(connect.last_zxid).unwrap_or_default() > zxid {
        return Err(Ended::Refused(format!("it has seen zxid {:#x}, and this group {zxid:#x}", connect.last_zxid)));
    }
    place.note(|client| (client.session, client.ttl_ms, client.answered.zxid) = (Some(session.0), ttl_ms, zxid));
    let timeout_ms = i32::try_from(ttl_ms).unwrap_or(i32::MAX);
    stream.write_all(&reply::connected(timeout_ms, session.0.cast_signed(), &password, with_read_only)).await?;
    let ttl = Duration::from_millis(ttl_ms);
    Ok((line, Talk::new(ttl, next_seq, zxid, address, Instant::now())))
}

/// Bytes from a client, cut into frames.
#[derive(Default)]
struct Frames {
    bytes: Vec<u8>,
    read: usize,
}

impl Frames {
    /// The next whole frame.
    fn next(&mut self) -> Result<Option<&[u8]>, Ended> {
        let rest = &self.bytes[self.read..];
        let Some((head, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(Ended::Refused(format!("it announces a frame of {length} bytes")));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let from = self.read + 4;
        self.read = from + length;
        Ok(Some(&self.bytes[from..from + length]))
    }

    /// Room for more, where what was taken stood.
    fn room(&mut self) -> &mut Vec<u8> {
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.reserve(READ_BYTES);
        &mut self.bytes
    }

    fn waiting(&self) -> usize {
        self.bytes.len() - self.read
    }
}

/// The conversation, until it ends.
async fn go_on(
    stream: &mut TcpStream,
    line: &Line,
    mut talk: Talk,
    place: &Place<'_>,
) -> Result<std::convert::Infallible, Ended> {
    let mut frames = Frames::default();
    let ended = match exchange(stream, line, &mut talk, &mut frames, place).await {
        Ok(never) => match never {},
        Err(ended) => ended,
    };
    // What was answered leaves, where the client reads it.
    let rest = std::mem::take(talk.out());
    let _ = timeout(FAREWELL, stream.write_all(&rest)).await;
    place.note(|client| client.answered = talk.answered());
    Err(ended)
}

async fn exchange(
    stream: &mut TcpStream,
    line: &Line,
    talk: &mut Talk,
    frames: &mut Frames,
    place: &Place<'_>,
) -> Result<std::convert::Infallible, Ended> {
    let (mut reader, mut writer) = stream.split();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = Instant::now();
        while talk.has_room()
            && let Some(frame) = frames.next()?
        {
            let header = talk.on_frame(now, frame)?;
            place.note(|client| {
                client.received += 1;
                (client.last_code, client.last_xid) = (header.code, header.xid);
            });
        }
        line.say(talk.take_asks());
        let (answered, outstanding) = (talk.answered(), talk.outstanding());
        place.note(|client| (client.answered, client.outstanding) = (answered, outstanding));
        let room = talk.has_room() && frames.waiting() <= MAX_FRAME_BYTES + 4;
        let unsent = talk.out().len();
        tokio::select! {
            read = reader.read_buf(frames.room()), if room => {
                if read? == 0 {
                    return Err(Ended::Quiet);
                }
            }
            tell = line.next(), if unsent < MAX_OUT_BYTES => {
                let (mut next, now) = (tell, Instant::now());
                loop {
                    let Some(tell) = next else { return Err(Ended::Refused("the line to the voter ended".into())) };
                    talk.on_tell(now, tell)?;
                    if talk.out().len() >= MAX_OUT_BYTES {
                        break;
                    }
                    match line.try_next() {
                        Some(tell) => next = Some(tell),
                        None => break,
                    }
                }
            }
            written = writer.write(talk.out()), if unsent > 0 => {
                let written = written?;
                if written == 0 {
                    return Err(Ended::Quiet);
                }
                talk.out().drain(..written);
            }
            _ = looks.tick() => talk.on_tick(Instant::now())?,
        }
    }
}
