//! What a liar about sets says: one place for the simulated ones and for those over real sockets.

use rand_core::Rng;

use crate::reconcile::message::{MAX_SYMBOLS_A_MESSAGE, Message as Step};
use crate::reconcile::riblt::Symbol;
use crate::wire::Codec as _;

/// Symbols that are asked for, and said, at once.
const SYMBOLS: u32 = 4_608;

/// Symbols of no set, for as long as they are asked for.
pub(crate) fn endless_symbols(step: &Step, rng: &mut impl Rng) -> Vec<Step> {
    let start = match step {
        Step::Root { .. } => 0,
        Step::More { upto, .. } => upto.saturating_sub(SYMBOLS),
        _ => return Vec::new(),
    };
    let mut symbol = |_| {
        let mut bytes = [0; Symbol::LEN];
        rng.fill_bytes(&mut bytes);
        Symbol::from_bytes(&bytes).expect("any bytes of that length are a symbol")
    };
    let symbols = (0..SYMBOLS.min(MAX_SYMBOLS_A_MESSAGE as u32)).map(&mut symbol).collect();
    vec![Step::Symbols { serial: step.serial(), start, target: u32::MAX, symbols }]
}
