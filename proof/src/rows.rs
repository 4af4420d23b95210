//! Replies generated from bytes, most of them of the right shape and with meaningful values.

use arbitrary::{Result, Unstructured};
use bytes::BytesMut;
use pm_core::wire::Column;
use pm_core::{Rows, Timestamp, Type, Value};
use uuid::Uuid;

const NUMBERS: [i64; 14] = [0, 1, 2, 3, 4, 7, 100, 500, -1, 60_000, 1 << 40, i64::MAX, i64::MIN, i64::MIN + 1];
const TEXTS: [&str; 7] = ["a", "b", "", "w", "{\"n\": 1}", "* * * * *", "UTC"];

/// Generates a reply with these columns and at most six rows. One row in four has a cell of arbitrary bytes, and one
/// reply in sixteen has the wrong number of columns.
pub(crate) fn rows(bytes: &mut Unstructured<'_>, columns: &[Column]) -> Result<Rows> {
    let mut columns: Vec<_> = columns.iter().map(|column| column.ty).collect();
    match bytes.int_in_range(0..=31)? {
        0 => columns.push(Type::Int8),
        1 => drop(columns.pop()),
        _ => {}
    }
    let mut rows = Rows::builder(columns.len());
    for _ in 0..bytes.int_in_range(0..=6)? {
        let odd = bytes.int_in_range(0..=4 * columns.len())?;
        for (index, ty) in columns.iter().enumerate() {
            match index == odd {
                true => {
                    let length = bytes.int_in_range(0..=24)?;
                    rows.push(Some(bytes.bytes(length.min(bytes.len()))?));
                }
                false => push(&mut rows, bytes, *ty)?,
            }
        }
    }
    Ok(rows.finish())
}

fn push(rows: &mut pm_core::wire::RowsBuilder, bytes: &mut Unstructured<'_>, ty: Type) -> Result<()> {
    let value = value(bytes, ty)?;
    let mut cell = BytesMut::new();
    value.encode(&mut cell).expect("nothing here is too long");
    rows.push((!value.is_null()).then_some(&cell));
    Ok(())
}

/// Generates a value, of most types from one byte, so that a mutation of the fuzzer changes only one cell.
fn value(bytes: &mut Unstructured<'_>, ty: Type) -> Result<Value<'static>> {
    let choice: u8 = bytes.arbitrary()?;
    if choice >= 0xF0 {
        return Ok(Value::Null(ty));
    }
    let number = NUMBERS[usize::from(choice) % NUMBERS.len()];
    let length = |below: u8| usize::from(choice % below);
    Ok(match ty {
        Type::Bool => Value::Bool(choice % 2 == 1),
        Type::Int2 => Value::Int2(i16::from(choice % 16)),
        Type::Int4 => Value::Int4(if choice < 0xC0 { i32::from(choice % 4) } else { number as i32 }),
        Type::Int8 => Value::Int8(if choice < 0x80 { i64::from(choice % 8) } else { number }),
        Type::Text => Value::Text(TEXTS[usize::from(choice) % TEXTS.len()]),
        Type::Uuid => Value::Uuid(Uuid::from_u128(u128::from(choice % 16))),
        Type::Timestamp => Value::Timestamp(Timestamp::from_unix_us(number)),
        Type::Int4Array => Value::Int4Array((0..length(8)).map(|n| Some(n as i32)).collect()),
        Type::Int8Array => Value::Int8Array(vec![Some(number.saturating_abs()); length(70)]),
        Type::Bytes => Value::Bytes(b"{}"),
        _ => Value::Bytes(b"odd"),
    })
}
