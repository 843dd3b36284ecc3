//! Asking peers for what a bookmark lacks, ahead of the next reconciliation.
//!
//! The peer that the bookmark hints at is asked first, if it is linked; from the second time on everybody is, who
//! replicates the path. What is asked is what anti-entropy asks: "ship what I lack, given my heads"; for a point, the roots
//! once more. Whatever is lost on the way comes with reconciliation.

use std::time::Duration;

use super::Wait;
use crate::engine::Engine;
use crate::engine::space::covered;
use crate::id::{DocumentId, Path, SpaceId};
use crate::io::LinkId;
use crate::session::{Missing, Why};
use crate::wire::v1::{DocumentHeads, Message};

/// Pause after the first time that peers were asked; doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between two times.
const MAX_PAUSE: Duration = Duration::from_secs(3);
/// Most generations of a path that are asked for at once.
const MAX_GENERATIONS: u32 = 8;

impl Engine {
    /// Asks for what is missing, and says when to look again.
    pub(super) fn pull(&mut self, wait: &mut Wait, missing: &Missing) {
        let now = self.now.mono;
        let pause = (MIN_PAUSE * 2u32.saturating_pow(wait.pulls.min(8))).min(MAX_PAUSE);
        wait.timer = Some(wait.deadline.map_or(now + pause, |deadline| deadline.min(now + pause)));
        wait.pulls += 1;
        let wanted = missing.documents.iter().filter(|document| document.why == Why::NotHere);
        let wanted: Vec<(Path, u32)> = wanted.map(|document| (document.path.clone(), document.generation)).collect();
        if !wanted.is_empty() {
            let asked = self.what_to_ask(&wait.space, &wanted);
            for link in self.whom_to_ask(wait) {
                self.ask_for(link, wait.space, &asked);
            }
        }
        let of_point = |link: &crate::engine::link::Link| {
            link.spaces.contains_key(&wait.space) && missing.points.iter().any(|point| point.peer == link.peer)
        };
        let links: Vec<LinkId> = self.links.iter().filter(|(_, link)| of_point(link)).map(|(id, _)| *id).collect();
        links.into_iter().for_each(|link| self.ask_roots(link));
    }

    /// The hinted peer the first time, if it is linked; otherwise everybody.
    fn whom_to_ask(&self, wait: &Wait) -> Vec<LinkId> {
        let ready = |link: &crate::engine::link::Link| link.spaces.get(&wait.space).is_some_and(|s| s.wanted.is_some());
        let all = || self.links.iter().filter(|(_, link)| ready(link));
        let hinted = all().filter(|(_, link)| wait.bookmark.hint() == Some(link.peer));
        let hinted: Vec<LinkId> = hinted.map(|(id, _)| *id).collect();
        if hinted.is_empty() || wait.pulls > 1 { all().map(|(id, _)| *id).collect() } else { hinted }
    }

    /// What this store has of each document, and of the generations before that are not deleted here.
    fn what_to_ask(&self, space: &SpaceId, wanted: &[(Path, u32)]) -> Vec<DocumentHeads> {
        let Some(state) = self.spaces.get(space) else { return Vec::new() };
        let mut asked = Vec::new();
        for (path, generation) in wanted {
            let first = state.index.live_generation(path).max(generation.saturating_sub(MAX_GENERATIONS));
            for generation in first.min(*generation)..=*generation {
                let id = DocumentId::derive(space, path, generation);
                let heads = state.index.by_id(&id).map(|entry| entry.heads.to_vec()).unwrap_or_default();
                asked.push(DocumentHeads { path: path.clone(), generation, heads });
            }
        }
        asked
    }

    fn ask_for(&mut self, id: LinkId, space: SpaceId, asked: &[DocumentHeads]) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(common) = link.spaces.get(&space) else { return };
        let asked: Vec<DocumentHeads> = asked.iter().filter(|d| covered(&common.domains, &d.path)).cloned().collect();
        let size = |d: &DocumentHeads| d.path.as_str().len() + 8 + 32 * d.heads.len();
        for documents in crate::engine::ship::pack(asked, size, crate::wire::v1::MAX_DOCUMENTS) {
            link.out.control(Message::FetchSince { space: common.tag, documents });
        }
        self.busy_links.insert(id);
    }

    /// Compares roots on a link as soon as nothing is on its way, from whichever end.
    fn ask_roots(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.sync.gap();
        self.busy_links.insert(id);
    }

    /// A peer is ready to be asked: whoever waits in the space asks now.
    pub(in crate::engine) fn pull_soon(&mut self, space: SpaceId) {
        let waiting = self.sessions.waits.iter().filter(|(_, wait)| wait.space == space && !wait.reading);
        let waiting: Vec<_> =
            waiting.filter(|(_, wait)| wait.loading.is_empty()).map(|(request, _)| *request).collect();
        for request in waiting {
            let Some(mut wait) = self.sessions.remove(request) else { continue };
            wait.timer = Some(self.now.mono);
            wait.pulls = 0;
            self.sessions.insert(request, wait);
        }
    }
}
