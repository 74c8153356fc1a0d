//! All definitions of an environment as one file that an empty environment takes without moving anybody.
//!
//! Archived definitions and kills are left out: a file of definitions has no words for them.

use std::sync::Arc;

use flagd_core::canonical::{Form, write_flag, write_segment};
use flagd_core::entry::EntryKind;
use flagd_core::state::State;
use flagd_proto::admin::{ExportPart, ExportRequest};
use flagd_proto::{Bytes, convert};

use super::definitions::read_flag;
use super::segments::read_whole_segment;
use super::{Control, ControlError};

/// Parts are cut after the definition that reaches this size.
const PART_BYTES: usize = 256 * 1024;

impl Control {
    /// The file, in parts; the first says of which state it is.
    ///
    /// # Errors
    /// [`ControlError::NoSuchRevision`], or what the store says.
    pub async fn export(&self, request: ExportRequest) -> Result<Vec<ExportPart>, ControlError> {
        let turn = self.readers.turn().await?;
        let fresh = self.fresh(&request.environment).await?;
        let state = self.state_at(&fresh, request.at_revision).await?;
        let position = convert::position_to_wire(state.position());
        let texts = turn.work("exporting", move || texts(&state)).await?;
        let mut parts: Vec<ExportPart> = texts
            .into_iter()
            .map(|text| ExportPart { text: Bytes::from(text), ..ExportPart::default() })
            .collect();
        if let Some(first) = parts.first_mut() {
            first.position = Some(position);
            first.server.clone_from(&self.server);
        }
        Ok(parts)
    }
}

/// The file as texts that belong together in order; at least one.
pub(super) fn texts(state: &Arc<State>) -> Vec<String> {
    let flag = |key: &str, bytes: &[u8]| {
        read_flag(key, bytes).ok().map(|(key, d)| write_flag(&key, &d, Form::Readable))
    };
    let segment = |key: &str, bytes: &[u8]| {
        let read = read_whole_segment(state, key, bytes).ok();
        read.map(|(key, d)| write_segment(&key, &d, Form::Readable))
    };
    let mut file = File { parts: Vec::new(), text: "{\n  \"flags\": {".to_owned() };
    file.members(state, EntryKind::FLAG, flag);
    file.text.push_str("},\n  \"segments\": {");
    file.members(state, EntryKind::SEGMENT, segment);
    file.text.push_str("}\n}\n");
    file.parts.push(file.text);
    file.parts
}

struct File {
    parts: Vec<String>,
    text: String,
}

impl File {
    fn members(&mut self, state: &State, kind: EntryKind, readable: impl Fn(&str, &[u8]) -> Option<String>) {
        let mut separator = "\n";
        for (id, entry) in state.entries_of(kind) {
            // What this server does not understand it passes on as it is.
            let definition = readable(&id.key, &entry.bytes)
                .unwrap_or_else(|| String::from_utf8_lossy(&entry.bytes).into_owned());
            self.text.push_str(separator);
            self.text.push_str("    ");
            self.text.push_str(&serde_json::Value::from(&*id.key).to_string());
            self.text.push_str(": ");
            // Strings hold no line breaks in JSON, so every one of them is of the layout.
            self.text.push_str(&definition.trim_end().replace('\n', "\n    "));
            separator = ",\n";
            if self.text.len() >= PART_BYTES {
                self.parts.push(std::mem::take(&mut self.text));
            }
        }
        if separator == ",\n" {
            self.text.push_str("\n  ");
        }
    }
}
