//! What is asked for: kinds and paths, as parameters that may be repeated.

use super::super::Api;
use super::super::ask::within;
use super::super::event::life;
use super::super::pass::{Pass, Want};
use super::super::problem::Problem;
use foreshore::coord::NodePath;
use foreshore::id::{Path, Prefix};

/// Most wishes of one kind in one request.
pub(in crate::http::api) const MAX_OF_KIND: usize = 16;

/// Kinds of wishes, each the name of its parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// One document.
    Document,
    /// What documents there are under a prefix.
    Documents,
    /// Soft state under a prefix.
    Soft,
    /// Signals under a prefix.
    Topic,
    /// A node of the tree.
    Node,
    /// Names of a node's children.
    Children,
    /// Who leads an election.
    Leader,
    /// How a queue stands.
    Queue,
}

/// Every kind and its name.
pub(in crate::http::api) const KINDS: [(&str, &str); 8] = [
    ("document", "a document"),
    ("documents", "what documents there are under a prefix"),
    ("soft", "soft state under a prefix"),
    ("topic", "signals under a prefix; nothing to read, and events on a stream"),
    ("node", "a node of the tree"),
    ("children", "names of a node's children"),
    ("leader", "who leads an election"),
    ("queue", "how a queue stands"),
];

impl Kind {
    fn parse(name: &str) -> Option<Self> {
        use Kind::{Children, Document, Documents, Leader, Node, Queue, Soft, Topic};
        let kinds = [Document, Documents, Soft, Topic, Node, Children, Leader, Queue];
        kinds.into_iter().find(|kind| kind.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        KINDS[self as usize].0
    }

    /// Whether the group of voters is asked for it.
    pub(super) fn is_strong(self) -> bool {
        matches!(self, Kind::Node | Kind::Children | Kind::Leader | Kind::Queue)
    }
}

/// One wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) kind: Kind,
    pub(super) path: String,
}

/// All wishes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wishes {
    pub(super) space: Option<String>,
    pub(super) all: Vec<Wish>,
}

/// How a stream is to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Course {
    /// An event after which it is to go on.
    pub(super) resume: Option<String>,
    /// For how long at most.
    pub(super) for_ms: Option<u64>,
}

impl Wishes {
    pub(super) fn parse(query: &str) -> Result<(Self, Course), Problem> {
        let mut wishes = Self { space: None, all: Vec::new() };
        let (mut resume, mut for_ms) = (None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let once = match name.as_ref() {
                "space" => &mut wishes.space,
                "last_event_id" => &mut resume,
                "for_ms" => &mut for_ms,
                name => {
                    let names = KINDS.map(|(name, _)| name).join(", ");
                    let kind = Kind::parse(name).ok_or_else(|| {
                        Problem::invalid(format_args!("{name:?} is no parameter of this")).hint(format!(
                            "it takes space, last_event_id, for_ms, and, each as often as need be: {names}"
                        ))
                    })?;
                    check(kind, &value)?;
                    if wishes.all.iter().filter(|wish| wish.kind == kind).count() >= MAX_OF_KIND {
                        let name = kind.name();
                        return Err(Problem::invalid(format_args!("{name}: there may be {MAX_OF_KIND} of them")));
                    }
                    wishes.all.push(Wish { kind, path: value.into_owned() });
                    continue;
                }
            };
            if once.replace(value.into_owned()).is_some() {
                return Err(Problem::invalid(format_args!("{name}: it is given twice")));
            }
        }
        let wrong = |_| Problem::invalid("for_ms: it is a number of milliseconds");
        let for_ms = for_ms.map(|text: String| text.parse().map_err(wrong).and_then(life)).transpose()?;
        Ok((wishes, Course { resume, for_ms }))
    }

    /// Checks each against what may be seen, and settles on the space.
    pub(super) async fn allowed(mut self, api: &Api, pass: &Pass) -> Result<Self, Problem> {
        self.all.iter().try_for_each(|wish| pass.check(Want::Read, &wish.path))?;
        self.space = Some(pass.space(api, self.space.take()).await?);
        Ok(self)
    }

    pub(super) fn space(&self) -> &str {
        self.space.as_deref().unwrap_or_default()
    }
}

fn check(kind: Kind, path: &str) -> Result<(), Problem> {
    within(path)?;
    let refused = |why: &dyn std::fmt::Display| Problem::invalid(format_args!("{}: {path:?}: {why}", kind.name()));
    match kind {
        Kind::Document => Path::parse(path).map(drop).map_err(|why| refused(&why)),
        Kind::Documents | Kind::Soft | Kind::Topic => Prefix::parse(path).map(drop).map_err(|why| refused(&why)),
        _ => NodePath::parse(path).map(drop).map_err(|why| refused(&why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_parameters_in_their_order() {
        let (wishes, course) =
            Wishes::parse("document=%2Fa%20b&soft=/&space=home&node=/c&document=/d&for_ms=7").unwrap();
        assert_eq!(course, Course { resume: None, for_ms: Some(7) });
        let all: Vec<_> = wishes.all.iter().map(|wish| (wish.kind.name(), wish.path.as_str())).collect();
        assert_eq!(all, [("document", "/a b"), ("soft", "/"), ("node", "/c"), ("document", "/d")]);
        assert_eq!(wishes.space(), "home");
        for (name, _) in KINDS {
            assert_eq!(Kind::parse(name).map(Kind::name), Some(name));
        }
    }

    #[test]
    fn what_is_no_wish_is_refused() {
        let many = vec!["document=/a"; MAX_OF_KIND + 1].join("&");
        for bad in ["document=a", "document=/", "soft=", "lock=/a", "topic=//", "node=/a/", "soft=/&for_ms=x", &many] {
            assert!(Wishes::parse(bad).is_err(), "{bad}");
        }
        assert!(Wishes::parse("soft=/&space=a&space=b").is_err());
    }
}
