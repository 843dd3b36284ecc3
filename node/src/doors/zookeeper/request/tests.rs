use super::super::jute::Writer;
use super::*;

fn parse(code: i32, write: impl FnOnce(&mut Writer)) -> Result<Request, JuteError> {
    let mut w = Writer::default();
    write(&mut w);
    let bytes = w.finish();
    Request::parse(code, &mut Reader::new(&bytes))
}

fn acl_list(w: &mut Writer) {
    w.list(&[(31, "world", "anyone")], |w, (perms, scheme, id)| {
        w.i32(*perms).string(scheme).string(id);
    });
}

/// One of each kind, as clients write them.
fn samples() -> Vec<(i32, Vec<u8>)> {
    let sample = |code, write: &dyn Fn(&mut Writer)| {
        let mut w = Writer::default();
        write(&mut w);
        (code, w.finish())
    };
    let path = |w: &mut Writer| {
        w.string("/a");
    };
    let create = |w: &mut Writer| {
        path(w);
        w.buffer(b"data");
        acl_list(w);
        w.i32(0);
    };
    let paths = |w: &mut Writer| {
        w.list(&["/a", "/b"], |w, path| {
            w.string(path);
        });
    };
    vec![
        sample(code::CREATE, &create),
        sample(code::CREATE_TTL, &|w| {
            create(w);
            w.i64(1_000);
        }),
        sample(code::SET_DATA, &|w| {
            path(w);
            w.buffer(b"x").i32(-1);
        }),
        sample(code::EXISTS, &|w| {
            path(w);
            w.bool(true);
        }),
        sample(code::SET_ACL, &|w| {
            path(w);
            acl_list(w);
            w.i32(0);
        }),
        sample(code::MULTI, &|w| {
            w.i32(code::CREATE2).bool(false).i32(-1);
            create(w);
            w.i32(code::DELETE).bool(false).i32(-1);
            path(w);
            w.i32(3);
            w.i32(-1).bool(true).i32(-1);
        }),
        sample(code::MULTI_READ, &|w| {
            w.i32(code::GET_DATA).bool(false).i32(-1);
            path(w);
            w.bool(false);
            w.i32(-1).bool(true).i32(-1);
        }),
        sample(code::SET_WATCHES2, &|w| {
            w.i64(7);
            (0..5).for_each(|_| paths(w));
        }),
        sample(code::AUTH, &|w| {
            w.i32(0).string("digest").buffer(b"joe:x");
        }),
        sample(code::ADD_WATCH, &|w| {
            path(w);
            w.i32(1);
        }),
        sample(code::REMOVE_WATCHES, &|w| {
            path(w);
            w.i32(3);
        }),
    ]
}

#[test]
fn requests_are_read_as_clients_write_them() {
    let (code, bytes) = &samples()[5];
    let Ok(Request::Multi(parts)) = Request::parse(*code, &mut Reader::new(bytes)) else { panic!("a multi") };
    assert_eq!(parts[1], Change::Delete { path: "/a".into(), version: 3 });
    let Change::Create(create) = &parts[0] else { panic!("a creation") };
    assert!(!create.with_stat && create.ttl_ms == -1 && create.data == b"data");
    let exists = parse(code::EXISTS, |w| {
        w.string("/a").bool(true);
    });
    assert_eq!(exists, Ok(Request::Exists { path: "/a".into(), watch: true }));
    assert_eq!(parse(77, |_| ()), Ok(Request::Unknown(77)));
}

#[test]
fn truncated_requests_are_errors_and_nothing_else() {
    for (code, bytes) in samples() {
        assert!(Request::parse(code, &mut Reader::new(&bytes)).is_ok(), "{code}");
        for end in 0..bytes.len() {
            assert!(Request::parse(code, &mut Reader::new(&bytes[..end])).is_err(), "{code} cut at {end}");
        }
    }
}

/// A generator of its own: the same bytes in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn changed_requests_and_any_bytes_are_requests_or_errors() {
    let (mut dice, samples) = (Dice(0x9e37_79b9_7f4a_7c15), samples());
    let (mut read, mut refused) = (0, 0);
    for _ in 0..50_000 {
        let (code, mut bytes) = samples[dice.next() as usize % samples.len()].clone();
        for _ in 0..1 + dice.next() % 3 {
            let at = dice.next() as usize % bytes.len();
            bytes[at] = dice.next() as u8;
        }
        match Request::parse(code, &mut Reader::new(&bytes)) {
            Ok(_) => read += 1,
            Err(_) => refused += 1,
        }
        let _ = Connect::parse(&bytes);
    }
    assert!(read > 1_000 && refused > 1_000, "{read} read, {refused} refused");
}

#[test]
fn old_clients_have_no_flag_at_the_end() {
    let mut w = Writer::default();
    w.i32(0).i64(5).i32(10_000).i64(0).buffer(&[0; 16]);
    let bytes = w.finish();
    let connect = Connect::parse(&bytes).expect("a first frame");
    assert_eq!((connect.last_zxid, connect.timeout_ms, connect.read_only), (5, 10_000, None));
    let connect = Connect::parse(&[bytes, vec![1]].concat()).expect("a first frame");
    assert_eq!(connect.read_only, Some(true));
}
