//! Pickles written by hand: good ones, damaged ones and hostile ones.

use super::*;

fn text(pickle: &[u8]) -> String {
    let read = Pickle::read(pickle).unwrap();
    describe(&read, read.root())
}

fn describe(pickle: &Pickle<'_>, id: Id) -> String {
    let list = |items: &[Id]| items.iter().map(|&item| describe(pickle, item)).collect::<Vec<_>>().join(",");
    let dict = |entries: &[(Id, Id)]| {
        let pairs =
            entries.iter().map(|&(key, value)| format!("{}:{}", describe(pickle, key), describe(pickle, value)));
        pairs.collect::<Vec<_>>().join(",")
    };
    match pickle.get(id) {
        Value::Tuple(items) => format!("({})", list(items)),
        Value::List(items) => format!("[{}]", list(items)),
        Value::Set(items) => format!("{{{}}}", list(items)),
        Value::Dict(entries) => format!("{{{}}}", dict(entries)),
        Value::Class { module, name } => format!("{module}.{name}"),
        Value::Persistent(id) => format!("@{}", describe(pickle, *id)),
        Value::Object(object) => {
            let state = object.state.map_or(String::new(), |state| format!("={}", describe(pickle, state)));
            let filled = [list(&object.items), dict(&object.entries)].concat();
            format!("{}{}{state}{filled}", describe(pickle, object.callable), describe(pickle, object.arguments))
        }
        Value::Text(text) => format!("'{text}'"),
        other => format!("{other:?}"),
    }
}

#[test]
fn all_protocols_give_the_same_values() {
    // `{"a": [1, -2, 2.5, None, True], "b": (b"x",)}` by Python's pickle.
    let zero = b"(dp0\nVa\np1\n(lp2\nI1\naI-2\naF2.5\naNaI01\nasVb\np3\n(c_codecs\nencode\np4\n(Vx\np5\nVlatin1\np6\ntp7\nRp8\ntp9\ns.";
    let two = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffG@\x04\x00\x00\x00\x00\x00\x00N\x88eX\x01\x00\x00\x00bq\x03c_codecs\nencode\nq\x04X\x01\x00\x00\x00xq\x05X\x06\x00\x00\x00latin1q\x06\x86q\x07Rq\x08\x85q\tu.";
    let four = b"\x80\x04\x95(\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94(K\x01J\xfe\xff\xff\xffG@\x04\x00\x00\x00\x00\x00\x00N\x88e\x8c\x01b\x94C\x01x\x94\x85\x94u.";
    let values = "{'a':[Int(1),Int(-2),Float(2.5),None,Bool(true)],'b':";
    assert_eq!(text(zero), format!("{values}(_codecs.encode('x','latin1'))}}"));
    assert_eq!(text(two), text(zero));
    assert_eq!(text(four), format!("{values}(Bytes([120]))}}"));
}

#[test]
fn calls_are_described_and_not_made() {
    assert_eq!(text(b"\x80\x02cposix\nsystem\nX\x02\0\0\0ls\x85R."), "posix.system('ls')");
    assert_eq!(
        text(b"\x80\x02ccollections\nOrderedDict\n)R(K\x01K\x02u}b."),
        "collections.OrderedDict()={}Int(1):Int(2)"
    );
    assert_eq!(text(b"\x80\x04\x8c\x01m\x8c\x01C\x93)\x81."), "m.C()");
    assert_eq!(text(b"(I7\nim\nC\n."), "m.C(Int(7))");
    assert_eq!(text(b"\x80\x02X\x01\0\0\0k\x85Q."), "@('k')");
}

#[test]
fn what_is_recalled_is_one_value_and_may_hold_itself() {
    // `x = []; x.append(x)`
    let pickle = Pickle::read(b"\x80\x02]q\x00h\x00a.").unwrap();
    assert_eq!(pickle.items(pickle.root()), Some(&[pickle.root()][..]));
    let long = Pickle::read(b"\x80\x02\x8a\x0a0123456789.").unwrap();
    assert_eq!(*long.get(long.root()), Value::Bytes(b"0123456789"));
    let wide = Pickle::read(b"\x80\x02\x8a\x02\xff\xff.").unwrap();
    assert_eq!(wide.int(wide.root()), Some(-1));
}

/// Each list holds the one before twice: 2^40 items for Python.
#[test]
fn clones_cost_nothing() {
    let mut laughs = b"\x80\x02]".to_vec();
    (0..40).for_each(|_| laughs.extend(b"2\x86"));
    laughs.push(b'.');
    assert!(Pickle::read(&laughs).unwrap().values().len() < 50);
}

#[test]
fn depth_is_no_limit() {
    let mut deep = b"\x80\x02".to_vec();
    deep.extend(b"]".repeat(100_000));
    deep.extend(b"a".repeat(99_999));
    deep.push(b'.');
    assert_eq!(Pickle::read(&deep).unwrap().values().len(), 100_004);
}

#[test]
fn damaged_pickles_are_named_with_the_place() {
    let error = |pickle: &[u8]| Pickle::read(pickle).unwrap_err();
    assert_eq!(error(b""), "it ends too early (byte 0 of its pickle)");
    assert_eq!(error(b"\x80\x02X\xff\xff\xff\xffx"), "it ends too early (byte 2 of its pickle)");
    assert_eq!(error(b"\x80\x09N."), "it uses protocol 9, newer than 5 (byte 0 of its pickle)");
    assert_eq!(
        error(b"\x80\x02\x82\x01."),
        "its opcode 0x82 is unknown or needs a running Python (byte 2 of its pickle)"
    );
    for pickle in [&b"."[..], b"(e.", b"R.", b"b.", b"}(Nu.", b"Na.", b"h\x00.", b"(o.", b"N\x93.", b"e."] {
        assert!(Pickle::read(pickle).is_err(), "{pickle:?}");
    }
    let many = b"]".repeat(3 << 20);
    assert!(error(&many).contains("more than 2097152 values"));
    assert!(Pickle::read(&[&b"N".repeat(3 << 20)[..], b"."].concat()).is_ok());
}
