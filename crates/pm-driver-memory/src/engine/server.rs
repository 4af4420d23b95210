//! What statements read about the schema and the server.

use super::Work;
use pm_core::MIGRATIONS;
use pm_core::op::VersionRow;

impl Work<'_> {
    pub(super) fn schema_version(&mut self) {
        for migration in &MIGRATIONS {
            self.add(VersionRow { version: migration.version, fingerprint: Some(migration.fingerprint()) });
        }
    }

    pub(super) fn encoding(&mut self) {
        self.add(if self.tables.is_latin1 { "LATIN1" } else { "UTF8" }.to_owned());
    }

    // The others reply without rows: nothing is vacuumed, no index can be missing, every role has all privileges, no
    // sequence can be behind, there are no orphans and no schemas.

    pub(super) fn row_holders(&mut self) {}

    pub(super) fn table_healths(&mut self) {}

    pub(super) fn index_healths(&mut self) {}

    pub(super) fn relations(&mut self) {}

    pub(super) fn privileges(&mut self) {}

    pub(super) fn sequences(&mut self) {}

    pub(super) fn orphans(&mut self) {}

    pub(super) fn search_paths(&mut self) {}
}
