//! pm on its driver for sqlx.

use crate::Result;
use crate::ours::Driver;
use pm_driver_sqlx::{Queue, connect};

/// The driver.
#[derive(Clone)]
pub(crate) struct Sqlx;

impl Driver for Sqlx {
    const NAME: &'static str = "ours on sqlx";

    async fn connect(url: &str) -> Result<Queue> {
        Ok(connect(url).await?)
    }
}
