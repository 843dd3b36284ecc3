//! Lies about what differs: roots, coded symbols, ids, ranges, and questions without end.

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::fuzz::lies::endless_symbols;
use crate::reconcile::message::{Answer, Ask, Holds, MAX_IDS_A_MESSAGE, Message as Step, Part};
use crate::reconcile::range::{Bound, Fingerprint, Range};
use crate::reconcile::{KeyName, Root};
use crate::wire::Codec;
use crate::wire::v1::RootsKind;

/// Numbers without end.
struct Noise(ChaCha12Rng);

impl Noise {
    fn new(seed: u8) -> Self {
        Self(ChaCha12Rng::from_seed([seed; 32]))
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}

/// How a guest answers the steps of a session.
type Answers = fn(&Step, &mut Noise) -> Vec<Step>;

/// Symbols of no set, for as long as they are asked for.
fn symbols(step: &Step, noise: &mut Noise) -> Vec<Step> {
    endless_symbols(step, &mut noise.0)
}

/// Symbols all alike: every id in them collides with every other.
fn colliding(step: &Step, noise: &mut Noise) -> Vec<Step> {
    let alike = symbols(step, noise).pop();
    let Some(Step::Symbols { serial, start, symbols, .. }) = alike else { return Vec::new() };
    vec![Step::Symbols { serial, start, target: 100, symbols: vec![symbols[0]; symbols.len()] }]
}

/// A set as large as a message holds, another one each time, some of it twice.
fn listed(step: &Step, noise: &mut Noise) -> Vec<Step> {
    let Step::Root { serial, .. } = step else { return Vec::new() };
    let ids = (0..MAX_IDS_A_MESSAGE).map(|n| if n % 7 == 0 { 7 } else { u64::from_le_bytes(noise.bytes()) }).collect();
    vec![Step::Ids { serial: *serial, ids }]
}

/// Ranges that never agree, however small they get.
fn ranges(step: &Step, noise: &mut Noise) -> Vec<Step> {
    match step {
        Step::Root { serial, .. } => vec![Step::UseRanges { serial: *serial }],
        Step::Compare { serial, ranges } => {
            let lie = |_| {
                let sum = Fingerprint::from_le_bytes(noise.bytes());
                Answer::Parts(vec![Part { to: None, holds: Holds::Fingerprint(sum) }])
            };
            vec![Step::Compared { serial: *serial, answers: ranges.iter().map(lie).collect() }]
        }
        _ => Vec::new(),
    }
}

/// Ranges that fall apart for ever into something small and all the rest.
fn crumbs(step: &Step, noise: &mut Noise) -> Vec<Step> {
    match step {
        Step::Root { serial, .. } => vec![Step::UseRanges { serial: *serial }],
        Step::Compare { serial, ranges } => {
            let lie = |(range, _): &(Range, Ask)| {
                let to = Some(Bound { path: range.from.path.clone(), id: range.from.id.saturating_add(1) });
                let holds = Holds::Fingerprint(Fingerprint::from_le_bytes(noise.bytes()));
                Answer::Parts(vec![Part { to, holds: holds.clone() }, Part { to: None, holds }])
            };
            vec![Step::Compared { serial: *serial, answers: ranges.iter().map(lie).collect() }]
        }
        _ => Vec::new(),
    }
}

/// A set that has always just changed.
fn stale(step: &Step, _: &mut Noise) -> Vec<Step> {
    matches!(step, Step::Root { .. }).then(|| Step::Stale { serial: step.serial() }).into_iter().collect()
}

/// Nothing at all, where there is something.
fn one_sided(step: &Step, _: &mut Noise) -> Vec<Step> {
    matches!(step, Step::Root { .. }).then(|| Step::OneSided { serial: step.serial() }).into_iter().collect()
}

/// Answers what seat 0 asks, for as long as it does and at most so often; bytes that it said.
fn converse(scene: &mut Scene, noise: &mut Noise, answers: Answers) -> usize {
    let mut said = 0;
    for _ in 0..20_000 {
        let heard = scene.hear();
        if heard.is_empty() {
            return said;
        }
        for message in heard {
            let mut bytes = Vec::new();
            message.append_to(&mut bytes);
            said += bytes.len();
            match message {
                Message::Roots { kind: RootsKind::Ask, .. } => {
                    let root = noise.bytes();
                    scene.say(&Message::Roots { kind: RootsKind::Answer, root, arrival: 1 });
                }
                Message::Reconcile { space, domain, body } => {
                    let step = Step::from_bytes(&body).expect("an own step reads");
                    for step in answers(&step, noise) {
                        scene.say(&Message::Reconcile { space, domain, body: step.to_bytes() });
                    }
                }
                _ => {}
            }
        }
    }
    panic!("seat 0 never stops asking");
}

#[test]
fn lies_about_what_differs_end_in_bounded_talk_and_change_nothing() {
    let quiet = quiet();
    let kinds: [(&str, Answers); 7] = [
        ("symbols", symbols),
        ("colliding", colliding),
        ("listed", listed),
        ("ranges", ranges),
        ("crumbs", crumbs),
        ("stale", stale),
        ("one-sided", one_sided),
    ];
    for (name, answers) in kinds {
        let (mut noise, mut said, mut rounds) = (Noise::new(0), 0, 0);
        let day = Scene::asked(usual).live(|scene| {
            // Long enough for the next round.
            scene.world.run_for(20_000);
            let bytes = converse(scene, &mut noise, answers);
            rounds += u32::from(bytes > 100);
            said += bytes;
        });
        assert!(rounds > 0, "{name}: nothing was asked");
        assert!(said <= 2 << 20, "{name}: {said} bytes were said to a liar");
        assert!(day.as_left && day.status.orphans == 0, "{name}");
        let longer = self::day(usual, |scene| scene.world.run_for(20_000)).honest_bytes;
        assert!(day.honest_bytes <= 2 * longer.max(quiet), "{name}: {} bytes instead of {longer}", day.honest_bytes);
    }
}

/// Sessions begun as fast as a link carries them: each makes the other look at its whole set.
#[test]
fn sessions_are_begun_at_a_bounded_rate() {
    let begun = |set: &dyn Fn(&mut EngineConfig)| {
        let mut scene = Scene::new(set);
        scene.hear();
        let (space, domain) = (scene.guest.tag, [0; 4]);
        let mut noise = Noise::new(1);
        for n in 0..20_000u32 {
            let root = Root(noise.bytes());
            let step =
                Step::Root { serial: n as u8, key: KeyName::Epoch(0), at_least: 0, count: 3, root, sketch: None };
            scene.say(&Message::Reconcile { space, domain, body: step.to_bytes() });
        }
        let answered = scene.hear().into_iter().filter_map(|message| match message {
            Message::Reconcile { body, .. } => Step::from_bytes(&body).ok(),
            _ => None,
        });
        let taken = answered.filter(|step| !matches!(step, Step::Stale { .. })).count();
        scene.work();
        scene.world.run_for(2_000);
        assert!(scene.is_as_left());
        scene.end();
        taken as u64
    };
    let most = crate::engine::SESSIONS_AT_ONCE;
    let bounded = begun(&usual);
    assert!((1..=most).contains(&bounded), "{bounded} sessions of at most {most}");
    assert!(begun(&without(Defence::Sessions)) > most, "without the defence all of them are begun");
}
