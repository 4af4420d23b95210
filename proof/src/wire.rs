//! Fuzzes the decoding of cells, compared with `postgres-types`.

use bytes::{Bytes, BytesMut};
use pm_core::wire::Columns;
use pm_core::{Rows, StatementId, Timestamp, Value};
use postgres_types::{FromSql, Timestamp as TheirTimestamp, Type as TheirType};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// Reads the first byte as a type and the others as a cell; encodes the decoded value and decodes it again.
///
/// # Panics
///
/// If the value differs from that of `postgres-types`, or does not round-trip.
pub fn wire(bytes: &[u8]) {
    let Some((first, cell)) = bytes.split_first() else { return };
    match first % 10 {
        0 => agree(cell, &TheirType::BOOL, |value: bool| value, |value| Value::Bool(*value)),
        1 => agree(cell, &TheirType::INT2, |value: i16| value, |value| Value::Int2(*value)),
        2 => agree(cell, &TheirType::INT4, |value: i32| value, |value| Value::Int4(*value)),
        3 => agree(cell, &TheirType::INT8, |value: i64| value, |value| Value::Int8(*value)),
        4 => agree(cell, &TheirType::TEXT, |value: String| value, |value| Value::Text(value)),
        5 => agree(cell, &TheirType::BYTEA, |value: Vec<u8>| Bytes::from(value), |value| Value::Bytes(value)),
        6 => agree(cell, &TheirType::UUID, |value: Uuid| value, |value| Value::Uuid(*value)),
        7 => agree(cell, &TheirType::TIMESTAMPTZ, our_time, |value| Value::Timestamp(*value)),
        8 => agree_on_array(cell, &TheirType::INT4_ARRAY, |values: &Vec<i32>| {
            Value::Int4Array(values.iter().copied().map(Some).collect())
        }),
        _ => agree_on_array(cell, &TheirType::INT8_ARRAY, |values: &Vec<i64>| {
            Value::Int8Array(values.iter().copied().map(Some).collect())
        }),
    }
}

fn read<T: Columns>(cell: &[u8]) -> Option<T> {
    let mut rows = Rows::builder(1);
    rows.push(Some(cell));
    rows.finish().only(StatementId::Job).ok()?.read().ok()
}

fn agree<'a, Ours, Theirs>(
    cell: &'a [u8],
    ty: &TheirType,
    ours: impl Fn(Theirs) -> Ours,
    value: impl for<'b> Fn(&'b Ours) -> Value<'b>,
) where
    Ours: Columns + PartialEq + std::fmt::Debug,
    Theirs: FromSql<'a>,
{
    let read_by_us = read::<Ours>(cell);
    assert_eq!(read_by_us, Theirs::from_sql(ty, cell).ok().map(ours), "{ty}");
    if let Some(read_by_us) = read_by_us {
        let mut written = BytesMut::new();
        value(&read_by_us).encode(&mut written).expect("a decoded value is not too long");
        assert_eq!(read::<Ours>(&written), Some(read_by_us));
    }
}

/// Does the same for an array. `postgres-types` trusts the length in the array's header and allocates as much memory.
fn agree_on_array<'a, T>(cell: &'a [u8], ty: &TheirType, value: impl for<'b> Fn(&'b Vec<T>) -> Value<'b>)
where
    Vec<T>: Columns,
    T: FromSql<'a> + PartialEq + std::fmt::Debug,
{
    let length = cell.get(12..16).and_then(|length| Some(u32::from_be_bytes(length.try_into().ok()?)));
    match length.is_some_and(|length| length as usize > cell.len()) {
        true => assert_eq!(read::<Vec<T>>(cell), None),
        false => agree(cell, ty, |values: Vec<T>| values, value),
    }
}

/// Converts a time of `postgres-types`; the latest finite time is one microsecond before infinity.
fn our_time(time: TheirTimestamp<SystemTime>) -> Timestamp {
    let micros = |distance: Duration| i64::try_from(distance.as_micros()).unwrap_or(i64::MAX - 1);
    match time {
        TheirTimestamp::PosInfinity => Timestamp::INFINITY,
        TheirTimestamp::NegInfinity => Timestamp::NEG_INFINITY,
        TheirTimestamp::Value(time) => Timestamp::from_unix_us(match time.duration_since(UNIX_EPOCH) {
            Ok(since) => micros(since).min(i64::MAX - 1),
            Err(before) => -micros(before.duration()),
        }),
    }
}
