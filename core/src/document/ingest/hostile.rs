//! Each check against a well-hashed change, beside what bare Automerge 0.12 makes of the same bytes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::chunk::{ChunkError, ChunkLimits, ColumnError};
use super::super::craft::*;
use super::*;
use automerge::Automerge;

/// What Automerge does with changes that nobody checked: applies, saves, loads and lists them.
#[derive(Debug, PartialEq, Eq)]
enum Bare {
    /// It unwinds.
    Panics,
    /// It returns an error and has none of the changes.
    Fails,
    /// It takes the changes and saves a document that it cannot load.
    Unloadable,
    /// It holds this many heads.
    Holds(usize),
}

fn bare(chunks: &[Vec<u8>]) -> Bare {
    let run = || {
        let changes: Result<Vec<_>, _> = chunks.iter().cloned().map(automerge::Change::from_bytes).collect();
        let mut doc = Automerge::new();
        if changes.map(|changes| doc.apply_changes(changes).is_err()).unwrap_or(true) {
            return Bare::Fails;
        }
        if Automerge::load(&doc.save()).is_err() {
            return Bare::Unloadable;
        }
        doc.get_changes(&[]);
        Bare::Holds(doc.get_heads().len())
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or(Bare::Panics)
}

fn bare_chunks(chunks: &[&Chunk]) -> Bare {
    bare(&chunks.iter().map(|chunk| chunk.bytes().to_vec()).collect::<Vec<_>>())
}

fn parse_error(bytes: &[u8]) -> ChunkError {
    Chunk::parse(bytes.to_vec(), &ChunkLimits::default()).unwrap_err()
}

/// Stages `last` on top of the others, all endorsed, and returns why it is refused.
fn refusal(below: &[&Chunk], last: &Chunk) -> IngestError {
    let mut log = Log::new();
    let below: Vec<Chunk> = below.iter().map(|chunk| (*chunk).clone()).collect();
    let staged = log.stage(below.clone(), &tips(&below));
    assert_eq!(staged.admitted.len(), below.len());
    log.admit(&staged.admitted, 1).unwrap();
    let mut staged = log.stage(vec![last.clone()], &[tip(last)]);
    assert_eq!((staged.admitted.len(), staged.waiting.len()), (0, 0));
    let (hash, error) = staged.refused.pop().unwrap();
    assert_eq!(hash, last.hash());
    error
}

/// A change of actor 2 that overwrites what `below` put under `k`, so that it names `below`'s actor.
fn overwriting(below: &Chunk) -> Craft {
    let mut craft = Craft::new(2);
    craft.deps = vec![below.hash()];
    craft.other_actors = vec![below.actor().as_bytes().to_vec()];
    craft.start_op = below.max_op() + 1;
    craft.set_column(112, &[0x7f, 1]).set_column(113, &[0x7f, 1]).set_column(115, &[0x7f, below.start_op() as u8]);
    craft
}

#[test]
fn a_fine_change_is_fine() {
    let one = Craft::new(1).chunk();
    let two = overwriting(&one).chunk();
    assert_eq!(bare_chunks(&[&one, &two]), Bare::Holds(1));
    let chunks = vec![two, one];
    assert_eq!(Log::new().stage(chunks.clone(), &tips(&chunks)).admitted.len(), 2);
}

#[test]
fn damaged_bytes_are_refused() {
    let mut bytes = Craft::new(1).bytes();
    *bytes.last_mut().unwrap() = 0;
    bytes[30] ^= 1;
    assert_eq!(parse_error(&bytes), ChunkError::Checksum);
    // Automerge does not look at the checksum: it takes the bytes for another change.
    assert_eq!(bare(&[bytes]), Bare::Holds(1));
}

#[test]
fn a_change_before_its_dependency_waits() {
    let one = Craft::new(1).chunk();
    let two = Craft::after(&one).chunk();
    let staged = Log::new().stage(vec![two.clone()], &[tip(&two)]);
    assert_eq!(staged.waiting[0].missing, [one.hash()]);
    assert!(staged.waiting[0].endorsed && staged.admitted.is_empty());
    // Automerge queues it inside the document, without a bound and unseen in the heads.
    assert_eq!(bare_chunks(&[&two]), Bare::Holds(0));
}

#[test]
fn a_sequence_gap_is_refused() {
    let one = Craft::new(1).chunk();
    let mut craft = Craft::after(&one);
    craft.seq = 3;
    let gap = craft.chunk();
    assert!(matches!(refusal(&[&one], &gap), IngestError::NotChained { seq: 3, .. }));
    assert_eq!(bare_chunks(&[&one, &gap]), Bare::Panics);
}

#[test]
fn a_change_beside_its_actors_previous_one_is_refused() {
    let one = Craft::new(1).chunk();
    let other = Craft::new(2).chunk();
    let mut craft = Craft::after(&one);
    craft.deps = vec![other.hash()];
    craft.start_op = 2;
    let beside = craft.chunk();
    assert!(matches!(refusal(&[&one, &other], &beside), IngestError::NotChained { seq: 2, .. }));
    // Automerge takes it and then believes that whoever has change 2 of an actor has its change 1.
    assert_eq!(bare_chunks(&[&one, &other, &beside]), Bare::Holds(2));
    let mut doc = Automerge::new();
    doc.apply_changes([&one, &other, &beside].map(automerge)).unwrap();
    let have = [automerge::ChangeHash(beside.hash().0)];
    assert_eq!(doc.get_changes(&have).len(), 0, "a peer at `beside` never learns of `one`");
}

#[test]
fn an_indirect_predecessor_is_refused_unless_endorsed_singly() {
    let one = Craft::new(1).chunk();
    let between = overwriting(&one).chunk();
    let mut craft = Craft::after(&one);
    craft.deps = vec![between.hash()];
    craft.start_op = 3;
    let two = craft.chunk();
    assert!(matches!(refusal(&[&one, &between], &two), IngestError::NotChained { seq: 2, .. }));
    let single = EndorsedTip { kind: TipKind::Single, ..tip(&two) };
    let chunks = vec![one.clone(), between.clone(), two.clone()];
    let staged = Log::new().stage(chunks, &[tip(&one), tip(&between), single.clone()]);
    assert_eq!(staged.admitted.len(), 3);
    // And over a log that has the others already.
    let mut log = Log::new();
    log.admit(&[one, between], 1).unwrap();
    assert_eq!(log.stage(vec![two], &[single]).admitted.len(), 1);
}

#[test]
fn a_second_change_at_one_seq_is_equivocation() {
    let one = Craft::new(1).chunk();
    let mut craft = Craft::new(1);
    craft.columns = put_columns("other", 1);
    let twin = craft.chunk();
    let error = refusal(&[&one], &twin);
    let IngestError::Equivocation { seq: 1, known, other, .. } = error else { panic!("{error:?}") };
    assert_eq!((known, other), (one.hash(), twin.hash()));
    // Automerge fails the whole batch, the innocent change included.
    let innocent = Craft::new(2).chunk();
    assert_eq!(bare_chunks(&[&innocent, &one, &twin]), Bare::Fails);
}

/// A change whose chain was incomplete took its place in the batch all the same, and the other one with its number was refused
/// for good: for the sake of something that may never come.
#[test]
fn what_waits_does_not_keep_out_what_contradicts_it_and_is_complete() {
    let one = Craft::new(1).chunk();
    let next = |value: u8| {
        let mut craft = Craft::new(1);
        (craft.seq, craft.deps, craft.start_op) = (2, vec![one.hash()], one.max_op() + 1);
        craft.timestamp = i64::from(value);
        craft.chunk()
    };
    // Whichever of the two is looked at first.
    let (mut a, mut b) = (next(1), next(2));
    for _ in 0..2 {
        let mut far = Craft::new(1);
        let lost = ChangeHash([7; 32]);
        let mut deps = vec![a.hash(), lost];
        deps.sort_unstable();
        (far.seq, far.deps, far.start_op) = (3, deps, a.max_op() + 1);
        let far = far.chunk();
        let staged = Log::new().stage(vec![one.clone(), a.clone(), far.clone(), b.clone()], &[tip(&far), tip(&b)]);
        let admitted: Vec<ChangeHash> = staged.admitted.iter().map(Chunk::hash).collect();
        assert_eq!(admitted, [one.hash(), b.hash()]);
        // The other chain waits, or is refused, by which of the two was looked at first; next to what is admitted it is refused.
        assert_eq!(staged.waiting.len() + staged.refused.len(), 2);
        std::mem::swap(&mut a, &mut b);
    }
    // Two complete ones: one of them stays, and it is told which endorsement the other one came with.
    let staged = Log::new().stage(vec![one.clone(), a.clone(), b.clone()], &[tip(&a), tip(&b)]);
    assert_eq!((staged.admitted.len(), staged.refused.len()), (2, 1));
    let out = staged.refused[0].0;
    assert_eq!(staged.contradicted, [(one.actor().clone(), 2, out)]);
}

/// Rivals for one place, all of which wait: however many there are, what has nothing to do with them is judged.
#[test]
fn countless_rivals_that_wait_hold_nobody_else_up() {
    let one = Craft::new(1).chunk();
    let honest = Craft::new(9).chunk();
    let (mut batch, mut tips) = (vec![one.clone(), honest.clone()], vec![tip(&honest)]);
    for n in 0..20 {
        let mut craft = Craft::new(1);
        (craft.seq, craft.deps, craft.start_op, craft.timestamp) = (2, vec![one.hash()], one.max_op() + 1, n);
        let two = craft.chunk();
        let mut craft = Craft::new(1);
        let mut deps = vec![two.hash(), ChangeHash([7; 32])];
        deps.sort_unstable();
        (craft.seq, craft.deps, craft.start_op) = (3, deps, two.max_op() + 1);
        let three = craft.chunk();
        tips.push(tip(&three));
        batch.extend([two, three]);
    }
    let staged = Log::new().stage(batch, &tips);
    assert_eq!(staged.admitted, [honest]);
    assert!(!staged.waiting.is_empty());
}

#[test]
fn a_torn_chain_is_admitted_as_far_as_it_stands() {
    let one = Craft::new(1).chunk();
    let mut craft = Craft::new(1);
    let mut deps = vec![one.hash(), ChangeHash([7; 32])];
    deps.sort_unstable();
    (craft.seq, craft.deps, craft.start_op) = (2, deps, one.max_op() + 1);
    let two = craft.chunk();
    let whole = Log::new().stage(vec![one.clone(), two.clone()], &[tip(&two)]);
    assert_eq!(whole.admitted.len(), 0);
    let torn = EndorsedTip { kind: TipKind::Torn, ..tip(&two) };
    let part = Log::new().stage(vec![one.clone(), two], &[torn]);
    assert_eq!(part.admitted, [one]);
}

#[test]
fn an_actor_from_nowhere_is_refused() {
    let one = Craft::new(1).chunk();
    let mut craft = overwriting(&one);
    craft.other_actors = vec![vec![5; 16]];
    let nowhere = craft.chunk();
    assert!(matches!(refusal(&[&one], &nowhere), IngestError::UnknownActor { .. }));
    assert_eq!(bare_chunks(&[&one, &nowhere]), Bare::Panics);
}

#[test]
fn an_actor_from_a_concurrent_branch_is_refused() {
    let one = Craft::new(1).chunk();
    let beside = Craft::new(3).chunk();
    let mut craft = overwriting(&one);
    craft.other_actors = vec![vec![3; 16]];
    let wrong = craft.chunk();
    assert!(matches!(refusal(&[&one, &beside], &wrong), IngestError::UnknownActor { .. }));
    // Whether Automerge panics depends on whether it happens to have the other branch: it does here, and then panics
    // in its own list of changes, since no such predecessor exists below.
    assert_ne!(bare_chunks(&[&one, &wrong]), Bare::Holds(1));
}

#[test]
fn op_counters_that_are_taken_are_refused() {
    let one = Craft::new(1).chunk();
    let mut craft = Craft::after(&one);
    craft.columns = put_columns("j", 1);
    craft.start_op = 1;
    let again = craft.chunk();
    assert_eq!(refusal(&[&one], &again), IngestError::StartOp { start_op: 1, after: 1 });
    assert_eq!(bare_chunks(&[&one, &again]), Bare::Panics);
}

#[test]
fn op_counters_that_leap_are_refused() {
    let one = Craft::new(1).chunk();
    let mut craft = Craft::after(&one);
    craft.columns = put_columns("j", 1);
    craft.start_op = 2 + MAX_OP_GAP;
    let leap = craft.chunk();
    assert!(matches!(refusal(&[&one], &leap), IngestError::StartOp { after: 1, .. }));
    // Automerge takes it, and makes room for the 65,536 ops that do not exist when it loads the document.
    assert_eq!(bare_chunks(&[&one, &leap]), Bare::Holds(1));
    craft.start_op -= 1;
    let fits = craft.chunk();
    let chunks = vec![one, fits];
    assert_eq!(Log::new().stage(chunks.clone(), &tips(&chunks)).admitted.len(), 2);
}

#[test]
fn op_counters_at_the_end_are_refused() {
    let one = Craft::new(1).chunk();
    let mut craft = Craft::after(&one);
    craft.start_op = u64::from(u32::MAX);
    craft.columns = put_columns("j", 3);
    let end = craft.chunk();
    assert!(matches!(refusal(&[&one], &end), IngestError::MaxOp { .. }));
    assert_eq!(bare_chunks(&[&one, &end]), Bare::Panics);
}

#[test]
fn extra_bytes_are_refused() {
    let one = Craft::new(1).chunk();
    let mut craft = Craft::after(&one);
    // An author of one byte, which Automerge allows at seq 1 alone.
    craft.extra = vec![1, 1, 7];
    let author = craft.chunk();
    assert_eq!(refusal(&[&one], &author), IngestError::ExtraBytes { bytes: 3 });
    assert_eq!(bare_chunks(&[&one, &author]), Bare::Panics);
}

#[test]
fn an_empty_change_is_refused() {
    let one = Craft::new(1).chunk();
    let mut craft = Craft::after(&one);
    craft.columns.clear();
    let empty = craft.chunk();
    assert_eq!(refusal(&[&one], &empty), IngestError::Empty);
    // Automerge takes any number of them: history that grows and says nothing.
    assert_eq!(bare_chunks(&[&one, &empty]), Bare::Holds(1));
    // The one that Automerge makes for a document without content is no growth.
    let mut craft = Craft::new(2);
    craft.columns.clear();
    let founding = craft.chunk();
    assert_eq!(check_form(&founding), Ok(()));
}

#[test]
fn unsorted_dependencies_are_refused() {
    let (one, two) = (Craft::new(1).chunk(), Craft::new(2).chunk());
    let mut craft = Craft::after(&one);
    craft.deps = vec![one.hash().max(two.hash()), one.hash().min(two.hash())];
    assert_eq!(refusal(&[&one, &two], &craft.chunk()), IngestError::DepsUnsorted);
    // Automerge takes them, so one edit can be spelled, hashed and endorsed in as many ways as it has dependencies.
    assert_eq!(bare_chunks(&[&one, &two, &craft.chunk()]), Bare::Holds(1));
    craft.deps = vec![one.hash(); 2];
    assert_eq!(refusal(&[&one], &craft.chunk()), IngestError::DepsUnsorted);
}

#[test]
fn what_depends_on_a_refused_change_is_refused() {
    let one = Craft::new(1).chunk();
    let mut craft = Craft::after(&one);
    craft.start_op = 9_000_000;
    let leap = craft.chunk();
    let above = Craft::after(&leap).chunk();
    let staged = Log::new().stage(vec![one.clone(), leap.clone(), above.clone()], &[tip(&above)]);
    assert_eq!(staged.refused[1], (above.hash(), IngestError::DependsOnRefused { dep: leap.hash() }));
    // All or nothing: the good beginning of a bad chain stays out.
    assert!(staged.admitted.is_empty());
    assert_eq!(staged.waiting[0].chunk, one);
}

#[test]
fn a_table_entry_that_no_op_names_is_refused() {
    let one = Craft::new(1).chunk();
    let mut craft = Craft::new(2);
    (craft.deps, craft.start_op) = (vec![one.hash()], 2);
    craft.other_actors = vec![vec![1; 16]];
    assert_eq!(parse_error(&craft.bytes()), ChunkError::Columns(ColumnError::UnusedActor));
    // Automerge forgets the entry, encodes the change anew and does not find it under its new hash.
    assert_eq!(bare(&[one.bytes().to_vec(), craft.bytes()]), Bare::Unloadable);
}

#[test]
fn an_actor_twice_in_the_table_is_refused() {
    let one = Craft::new(1).chunk();
    let mut craft = overwriting(&one);
    craft.other_actors = vec![vec![1; 16]; 2];
    // Two predecessors, one spelling of the actor each.
    craft.set_column(112, &[0x7f, 2]).set_column(113, &[0x7e, 1, 2]).set_column(115, &[0x7e, 1, 0]);
    let twice = Chunk::parse(craft.bytes(), &ChunkLimits::default()).unwrap();
    assert_eq!(refusal(&[&one], &twice), IngestError::ActorsUnsorted);
    assert_eq!(bare_chunks(&[&one, &twice]), Bare::Unloadable);
}

#[test]
fn a_second_spelling_of_a_column_is_refused() {
    let mut craft = Craft::new(1);
    craft.columns = put_columns("k", 1);
    // A run of one where an encoder writes a literal of one.
    craft.set_column(66, &[1, 1]);
    assert_eq!(parse_error(&craft.bytes()), ChunkError::Columns(ColumnError::Malformed { column: "action" }));
    assert_eq!(bare(&[craft.bytes()]), Bare::Unloadable);
}

#[test]
fn a_deletion_of_nothing_is_refused() {
    let mut craft = Craft::new(1);
    craft.set_column(66, &[0x7f, 3]).set_column(86, &[0x7f, 0]).set_column(87, &[]);
    assert_eq!(parse_error(&craft.bytes()), ChunkError::Columns(ColumnError::Meaningless));
    // Automerge has nowhere to keep it and misses it later.
    assert_eq!(bare(&[craft.bytes()]), Bare::Unloadable);
}

#[test]
fn an_actor_outside_the_table_is_refused() {
    let mut craft = overwriting(&Craft::new(1).chunk());
    craft.set_column(113, &[0x7f, 9]);
    assert!(matches!(parse_error(&craft.bytes()), ChunkError::Columns(ColumnError::Reference { .. })));
    assert_eq!(bare(&[Craft::new(1).bytes(), craft.bytes()]), Bare::Panics);
}

#[test]
fn an_op_id_beyond_32_bits_is_refused() {
    let mut craft = Craft::new(1);
    craft.set_column(1, &[0x7f, 0]).set_column(2, &[vec![0x7f], leb_u64(1 << 33)].concat());
    assert!(matches!(parse_error(&craft.bytes()), ChunkError::Columns(ColumnError::Reference { .. })));
    // Automerge panics while it parses.
    assert_eq!(bare(&[craft.bytes()]), Bare::Panics);
}

#[test]
fn an_actor_number_beyond_32_bits_is_refused() {
    let mut craft = Craft::new(1);
    craft.start_op = 9;
    craft.set_column(1, &[vec![0x7f], leb_u64(1 << 33)].concat()).set_column(2, &[0x7f, 1]);
    assert!(matches!(parse_error(&craft.bytes()), ChunkError::Columns(ColumnError::Reference { .. })));
    assert_eq!(bare(&[craft.bytes()]), Bare::Panics);
}

#[test]
fn a_run_of_countless_ops_is_refused_by_its_count() {
    let mut craft = Craft::new(1);
    craft.set_column(66, &[leb_i64(1 << 40), vec![1]].concat());
    let error = ChunkError::Columns(ColumnError::TooMany { what: "ops", max: 1 << 22 });
    assert_eq!(parse_error(&craft.bytes()), error);
    // Automerge would go through 2⁴⁰ rows; a smaller run shows that it does. Ours says no under the same bound.
    let mut small = Craft::new(1);
    small.columns = put_columns("k", 1 << 16);
    let limits = ChunkLimits { max_ops: 1 << 15, ..ChunkLimits::default() };
    assert!(matches!(Chunk::parse(small.bytes(), &limits), Err(ChunkError::Columns(ColumnError::TooMany { .. }))));
    assert_eq!(automerge::Change::from_bytes(small.bytes()).unwrap().len(), 1 << 16);
}

#[test]
fn countless_predecessors_of_one_op_are_refused_by_their_count() {
    let mut craft = overwriting(&Craft::new(1).chunk());
    craft.set_column(112, &[vec![0x7f], leb_u64(1 << 40)].concat());
    let error = ChunkError::Columns(ColumnError::TooMany { what: "predecessors", max: 1 << 22 });
    assert_eq!(parse_error(&craft.bytes()), error);
}

#[test]
fn a_long_name_under_a_long_run_is_refused_by_its_written_out_size() {
    let mut craft = Craft::new(1);
    craft.columns = put_columns(&"k".repeat(100_000), 1 << 16);
    let error = ChunkError::Columns(ColumnError::TooMany { what: "bytes of names", max: 64 << 20 });
    assert_eq!(parse_error(&craft.bytes()), error);
}

#[test]
fn a_bomb_is_refused_before_it_is_inflated() {
    let mut craft = Craft::new(1);
    craft.message = vec![b' '; 8 << 20];
    let body = craft.body();
    let bomb = frame_as(2, &body, &miniz_oxide::deflate::compress_to_vec(&body, 6));
    assert!(bomb.len() < 10_000);
    let limits = ChunkLimits { max_inflated: 1 << 20, ..ChunkLimits::default() };
    let error = ChunkError::TooLarge { what: "inflated change", max: 1 << 20 };
    assert_eq!(Chunk::parse(bomb.clone(), &limits), Err(error));
    // Automerge inflates whatever it is given.
    assert_eq!(automerge::Change::from_bytes(bomb).unwrap().message().unwrap().len(), 8 << 20);
}

#[test]
fn a_deflated_body_with_something_behind_it_is_refused() {
    let body = Craft::new(1).body();
    let mut deflated = miniz_oxide::deflate::compress_to_vec(&body, 6);
    let good = frame_as(2, &body, &deflated);
    assert_eq!(Chunk::parse(good, &ChunkLimits::default()).unwrap().hash(), Craft::new(1).chunk().hash());
    deflated.push(0);
    assert_eq!(parse_error(&frame_as(2, &body, &deflated)), ChunkError::Inflate);
    // Thousands of empty blocks before the last make any size of one hash.
    let padded: Vec<u8> = [0, 0, 0, 0xff, 0xff].repeat(1_000).into_iter().chain(deflated).collect();
    assert_eq!(parse_error(&frame_as(2, &body, &padded)), ChunkError::Inflate);
}

#[test]
fn documents_bundles_and_unknown_types_are_no_changes() {
    let doc = Automerge::new().save();
    assert_eq!(parse_error(&doc), ChunkError::Kind { kind: 0 });
    let body = Craft::new(1).body();
    assert_eq!(parse_error(&frame(3, &body)), ChunkError::Kind { kind: 3 });
    assert_eq!(parse_error(&frame(9, &body)), ChunkError::Kind { kind: 9 });
    assert_eq!(parse_error(b"nothing like it"), ChunkError::Magic);
}
