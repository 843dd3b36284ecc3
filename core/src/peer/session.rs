//! Reading with a bookmark: what a program has seen elsewhere, it sees here.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use foreshore::document::Value;
//! # use foreshore::peer::{CommandError, Space};
//! # async fn f(here: Space, there: Space) -> Result<(), Box<dyn std::error::Error>> {
//! let food = here.document("/lists/food").await?;
//! let bookmark = food.edit(|d| d.put("bread", 2))?.bookmark().await?;
//! // Another process, another peer; the bookmark came along as text.
//! match there.read::<Value>("/lists/food").at_least(&bookmark).timeout(Duration::from_secs(5)).await {
//!     Ok(fresh) => println!("{:?}, and go on with {}", fresh.value, fresh.bookmark),
//!     Err(CommandError::NotYet { missing }) => println!("not here yet: {missing}"),
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(()) }
//! ```

use std::future::IntoFuture;
use std::marker::PhantomData;
use std::time::Duration;

use super::space::{Answer, Space, unexpected};
use super::typed::Content;
use crate::engine::{Command, CommandError, Reply};
use crate::id::{ChangeHash, Path};
use crate::session::Bookmark;

/// How long reads and waits without a timeout of their own wait for what is not here.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(10);

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fresh<T> {
    /// The value; `None` where no document lives.
    pub value: Option<T>,
    /// Its heads, all durable here.
    pub heads: Vec<ChangeHash>,
    /// What the reader has seen now: this, and all that it asked for.
    pub bookmark: Bookmark,
}

/// A read to be awaited, from [`Space::read`].
#[must_use = "a read does nothing until it is awaited"]
#[derive(Debug, Clone)]
pub struct Read<T> {
    space: Space,
    path: Result<Path, CommandError>,
    bookmark: Option<Bookmark>,
    wait: Duration,
    kind: PhantomData<fn() -> T>,
}

impl<T: Content> Read<T> {
    pub(crate) fn new(space: Space, path: Result<Path, CommandError>) -> Self {
        Self { space, path, bookmark: None, wait: DEFAULT_WAIT, kind: PhantomData }
    }

    /// Only a state that covers this bookmark: all of it, at whatever paths. Without one, whatever is here.
    pub fn at_least(mut self, bookmark: &Bookmark) -> Self {
        self.bookmark = Some(bookmark.clone());
        self
    }

    /// How long to wait for what is not here, [`DEFAULT_WAIT`] unless said; then it is [`CommandError::NotYet`].
    pub fn timeout(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }
}

impl<T: Content> IntoFuture for Read<T> {
    type Output = Result<Fresh<T>, CommandError>;
    type IntoFuture = Answer<Fresh<T>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Space { client, id, .. } = &self.space;
            let bookmark = self.bookmark.unwrap_or_else(|| Bookmark::new(*id));
            let command = Command::ReadAtLeast { space: *id, path: self.path?, bookmark, wait: Some(self.wait) };
            match client.call(command).await? {
                Reply::Read { value, bookmark } => {
                    let (value, heads) = value.unzip();
                    let value = value.map(T::from_value).transpose();
                    let value = value.map_err(|why| CommandError::Invalid { what: "type", why })?;
                    Ok(Fresh { value, heads: heads.unwrap_or_default(), bookmark: *bookmark })
                }
                other => Err(unexpected(&other)),
            }
        })
    }
}

/// A wait for a bookmark, from [`Space::reach`].
#[must_use = "nobody waits until it is awaited"]
#[derive(Debug, Clone)]
pub struct Reach {
    space: Space,
    bookmark: Bookmark,
    wait: Duration,
}

impl Reach {
    pub(crate) fn new(space: Space, bookmark: Bookmark) -> Self {
        Self { space, bookmark, wait: DEFAULT_WAIT }
    }

    /// How long to wait, [`DEFAULT_WAIT`] unless said; then it is [`CommandError::NotYet`].
    pub fn timeout(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }
}

impl IntoFuture for Reach {
    type Output = Result<Bookmark, CommandError>;
    type IntoFuture = Answer<Bookmark>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { space, bookmark, wait } = self;
            let command = Command::Reach { space: space.id, bookmark, wait: Some(wait) };
            match space.client.call(command).await? {
                Reply::Bookmark(bookmark) => Ok(*bookmark),
                other => Err(unexpected(&other)),
            }
        })
    }
}
