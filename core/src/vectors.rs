//! The frozen vectors that unit tests check, for a target that has no test harness: a browser runs the same ones.

/// Checks every vector, and says which there were. A vector that has moved is a panic, as in a test.
pub fn check() -> Vec<&'static str> {
    let rooms: [(&str, fn()); 4] = [
        ("reconcile", crate::reconcile::vectors::check),
        ("soft", crate::soft::vectors::check),
        ("topic", crate::topic::vectors::check),
        ("trust", crate::trust::vectors::check),
    ];
    rooms.into_iter().map(|(room, check)| (check(), room).1).collect()
}
