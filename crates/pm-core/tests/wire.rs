//! The binary forms of values, compared with those of `postgres-types`.

use bytes::{Bytes, BytesMut};
use pm_core::wire::Columns;
use pm_core::{Rows, StatementId, Timestamp, Type, Value};
use postgres_types::{FromSql, IsNull, Kind, Timestamp as TheirTimestamp, ToSql, Type as TheirType};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use std::fmt::Debug;
use std::time::{Duration, UNIX_EPOCH};
use uuid::Uuid;

/// Microseconds from 1970 to 2000, the epoch of Postgres.
const EPOCH_US: i64 = 946_684_800_000_000;

const TYPES: [Type; 16] = [
    Type::Bool,
    Type::Int2,
    Type::Int4,
    Type::Int8,
    Type::Text,
    Type::Bytes,
    Type::Uuid,
    Type::Timestamp,
    Type::BoolArray,
    Type::Int2Array,
    Type::Int4Array,
    Type::Int8Array,
    Type::TextArray,
    Type::BytesArray,
    Type::UuidArray,
    Type::TimestampArray,
];

fn their_type(ty: Type) -> TheirType {
    match ty {
        Type::Bool => TheirType::BOOL,
        Type::Int2 => TheirType::INT2,
        Type::Int4 => TheirType::INT4,
        Type::Int8 => TheirType::INT8,
        Type::Text => TheirType::TEXT,
        Type::Bytes => TheirType::BYTEA,
        Type::Uuid => TheirType::UUID,
        Type::Timestamp => TheirType::TIMESTAMPTZ,
        Type::BoolArray => TheirType::BOOL_ARRAY,
        Type::Int2Array => TheirType::INT2_ARRAY,
        Type::Int4Array => TheirType::INT4_ARRAY,
        Type::Int8Array => TheirType::INT8_ARRAY,
        Type::TextArray => TheirType::TEXT_ARRAY,
        Type::BytesArray => TheirType::BYTEA_ARRAY,
        Type::UuidArray => TheirType::UUID_ARRAY,
        Type::TimestampArray => TheirType::TIMESTAMPTZ_ARRAY,
    }
}

/// Returns the same point in time as a type of `postgres-types`.
fn their_time(at: Timestamp) -> TheirTimestamp<impl ToSql + for<'a> FromSql<'a> + PartialEq> {
    let distance = Duration::from_micros(at.unix_us().unsigned_abs());
    match at {
        Timestamp::INFINITY => TheirTimestamp::PosInfinity,
        Timestamp::NEG_INFINITY => TheirTimestamp::NegInfinity,
        at if at.unix_us() < 0 => TheirTimestamp::Value(UNIX_EPOCH - distance),
        _ => TheirTimestamp::Value(UNIX_EPOCH + distance),
    }
}

fn our_bytes(value: &Value<'_>) -> Vec<u8> {
    let mut out = BytesMut::new();
    value.encode(&mut out).expect("nothing here is too long");
    out.to_vec()
}

fn their_bytes(value: &impl ToSql, ty: Type) -> Vec<u8> {
    let mut out = BytesMut::new();
    let is_null = value.to_sql(&their_type(ty), &mut out).expect("nothing here is too long");
    assert!(matches!(is_null, IsNull::No));
    out.to_vec()
}

/// Reads a cell as a driver passes it.
fn read<T: Columns>(cell: Option<&[u8]>) -> Result<T, pm_core::Error> {
    let mut rows = Rows::builder(1);
    rows.push(cell);
    rows.finish().only(StatementId::Job)?.read()
}

/// Asserts that both write the same bytes, and that `postgres-types` reads ours.
#[track_caller]
fn assert_written_alike<T: ToSql + for<'a> FromSql<'a> + PartialEq + Debug>(ours: &Value<'_>, theirs: &T) {
    let bytes = our_bytes(ours);
    assert_eq!(bytes, their_bytes(theirs, ours.ty()), "{ours:?}");
    assert_eq!(&T::from_sql(&their_type(ours.ty()), &bytes).expect("it is readable"), theirs);
}

/// Asserts the same, and that we read the bytes of `postgres-types`.
#[track_caller]
fn assert_alike<T, R>(ours: &Value<'_>, theirs: &T, read_back: &R)
where
    T: ToSql + for<'a> FromSql<'a> + PartialEq + Debug,
    R: Columns + PartialEq + Debug,
{
    assert_written_alike(ours, theirs);
    assert_eq!(&read::<R>(Some(&their_bytes(theirs, ours.ty()))).expect("it is readable"), read_back);
}

/// Any time that is stored without clamping it to the range of Postgres, often one near a limit.
fn time() -> impl Strategy<Value = Timestamp> {
    let min = i64::MIN + 1 + EPOCH_US;
    let near = |at: i64| (at.saturating_sub(3).max(min)..=at.saturating_add(3).min(i64::MAX - 1)).boxed();
    let ends = [min, -1, 0, EPOCH_US, i64::MAX - 1].map(near);
    let finite = prop_oneof![min..i64::MAX, prop::sample::select(ends.to_vec()).prop_flat_map(|range| range)];
    prop_oneof![
        10 => finite.prop_map(Timestamp::from_unix_us),
        1 => Just(Timestamp::INFINITY),
        1 => Just(Timestamp::NEG_INFINITY),
    ]
}

fn nullable_array<T: Debug + Clone>(element: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<Option<T>>> {
    vec(of(element), 0..20)
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

proptest! {
    #[test]
    fn scalars_are_encoded_and_decoded_as_by_postgres_types(
        (flag, small, middle, large) in any::<(bool, i16, i32, i64)>(),
        text in any::<String>(),
        raw in any::<Vec<u8>>(),
        id in uuid(),
        at in time(),
    ) {
        assert_alike(&Value::Bool(flag), &flag, &flag);
        assert_alike(&Value::Int2(small), &small, &small);
        assert_alike(&Value::Int4(middle), &middle, &middle);
        assert_alike(&Value::Int8(large), &large, &large);
        assert_alike(&Value::Text(&text), &text, &text);
        assert_alike(&Value::Bytes(&raw), &raw, &Bytes::from(raw.clone()));
        assert_alike(&Value::Uuid(id), &id, &id);
        assert_alike(&Value::Timestamp(at), &their_time(at), &at);
    }

    #[test]
    fn arrays_with_nulls_are_encoded_as_by_postgres_types(
        (flags, small) in (nullable_array(any::<bool>()), nullable_array(any::<i16>())),
        (middle, large) in (nullable_array(any::<i32>()), nullable_array(any::<i64>())),
        (texts, raw) in (nullable_array(any::<String>()), nullable_array(any::<Vec<u8>>())),
        (ids, times) in (nullable_array(uuid()), nullable_array(time())),
    ) {
        assert_written_alike(&Value::BoolArray(flags.clone()), &flags);
        assert_written_alike(&Value::Int2Array(small.clone()), &small);
        assert_written_alike(&Value::Int4Array(middle.clone()), &middle);
        assert_written_alike(&Value::Int8Array(large.clone()), &large);
        let borrowed = texts.iter().map(|text| text.as_deref().map(Into::into)).collect();
        assert_written_alike(&Value::TextArray(borrowed), &texts);
        let borrowed = raw.iter().map(Option::as_deref).collect();
        assert_written_alike(&Value::BytesArray(borrowed), &raw);
        assert_written_alike(&Value::UuidArray(ids.clone()), &ids);
        let theirs: Vec<_> = times.iter().map(|at| at.map(their_time)).collect();
        assert_written_alike(&Value::TimestampArray(times), &theirs);
    }

    #[test]
    fn arrays_of_postgres_types_are_decoded_and_those_with_nulls_refused(
        middle in nullable_array(any::<i32>()),
        large in nullable_array(any::<i64>()),
    ) {
        let (bytes, whole) = (their_bytes(&middle, Type::Int4Array), middle.iter().copied().collect::<Option<Vec<_>>>());
        prop_assert_eq!(read::<Vec<i32>>(Some(&bytes)).ok(), whole);
        let (bytes, whole) = (their_bytes(&large, Type::Int8Array), large.iter().copied().collect::<Option<Vec<_>>>());
        prop_assert_eq!(read::<Vec<i64>>(Some(&bytes)).ok(), whole);
    }

    #[test]
    fn encoded_times_keep_their_order_and_only_infinity_is_infinite(a: i64, b: i64) {
        let stored = |us| {
            let bytes = our_bytes(&Value::Timestamp(Timestamp::from_unix_us(us)));
            i64::from_be_bytes(bytes.try_into().expect("a timestamp has 8 bytes"))
        };
        prop_assert!(stored(a.min(b)) <= stored(a.max(b)));
        for us in [a, b, i64::MIN + 1, i64::MAX - 1] {
            prop_assert_eq!(matches!(stored(us), i64::MIN | i64::MAX), matches!(us, i64::MIN | i64::MAX));
        }
    }
}

#[test]
fn types_have_the_object_ids_and_elements_of_postgres_types() {
    for ty in TYPES {
        assert_eq!(ty.oid(), their_type(ty).oid(), "{ty:?}");
    }
    for (scalar, array) in TYPES[..8].iter().zip(&TYPES[8..]) {
        assert_eq!(their_type(*array).kind(), &Kind::Array(their_type(*scalar)), "{array:?}");
    }
}

#[test]
fn a_null_of_every_type_is_encoded_as_nothing() {
    for ty in TYPES {
        let null = Value::Null(ty);
        assert_eq!((null.is_null(), null.ty(), our_bytes(&null)), (true, ty, Vec::new()));
    }
    let mut out = BytesMut::new();
    assert!(matches!(None::<i32>.to_sql(&TheirType::INT4, &mut out), Ok(IsNull::Yes)) && out.is_empty());
    assert_eq!(read::<Option<i64>>(None), Ok(None));
    assert!(read::<i64>(None).is_err() && read::<Vec<i32>>(None).is_err() && read::<Timestamp>(None).is_err());
}

#[test]
fn an_array_of_two_dimensions_is_refused() {
    let mut cell = Vec::new();
    for number in [2, 0, 23, 1, 1, 1, 1, 4, 7] {
        cell.extend_from_slice(&i32::to_be_bytes(number));
    }
    assert!(read::<Vec<i32>>(Some(&cell)).is_err());
}
