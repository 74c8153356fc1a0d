//! What flags serve to a context, answered by the very snapshot that clients would use.

use flagd_core::context::Context;
use flagd_core::snapshot::Snapshot;
use flagd_core::time::Timestamp;
use flagd_proto::admin::{EvaluateRequest, EvaluateResponse, FlagAnswer};

use super::{Control, ControlError};
use crate::limits;

impl Control {
    /// One flag, or all, for a context.
    ///
    /// # Errors
    /// [`ControlError::Request`] when the context is none.
    pub async fn evaluate(&self, request: EvaluateRequest) -> Result<EvaluateResponse, ControlError> {
        let context = read_context(&request.context)?;
        let fresh = self.fresh(&request.environment).await?;
        let now = match request.now_ms {
            0 => self.hub.clock().now(),
            stated => Timestamp::from_millis(i64::try_from(stated).unwrap_or(i64::MAX)),
        };
        let snapshot = &fresh.view.snapshot;
        let keys = if request.flag.is_empty() { snapshot.flag_keys() } else { vec![request.flag.as_str()] };
        let answers = keys
            .into_iter()
            .map(|key| answer(snapshot, key, &context, now, request.explain))
            .collect::<Result<_, _>>()?;
        Ok(EvaluateResponse {
            position: Some(fresh.wire_position()),
            answers,
            server: self.server.clone(),
            view_age_ms: fresh.view_age_ms,
        })
    }
}

fn read_context(bytes: &[u8]) -> Result<Context, ControlError> {
    let max_bytes = limits::CONTEXT_MAX_BYTES;
    if bytes.len() > max_bytes {
        return Err(ControlError::TooLarge { what: "a context", bytes: bytes.len(), max_bytes });
    }
    if bytes.is_empty() {
        return Ok(Context::anonymous());
    }
    let value = serde_json::from_slice(bytes)
        .map_err(|error| ControlError::request(format!("the context is not JSON: {error}")))?;
    Context::from_json(&value).map_err(ControlError::request)
}

fn answer(
    snapshot: &Snapshot,
    key: &str,
    context: &Context,
    now: Timestamp,
    explain: bool,
) -> Result<FlagAnswer, ControlError> {
    let evaluation = snapshot.evaluate(key, context, now);
    let explanation = if explain {
        serde_json::to_string(&snapshot.explain(key, context, now))
            .map_err(|error| ControlError::Internal(format!("an explanation is not JSON: {error}")))?
    } else {
        String::new()
    };
    Ok(FlagAnswer {
        flag: key.to_owned(),
        value: evaluation.value.map(ToString::to_string),
        variant: evaluation.variant.map(ToOwned::to_owned),
        reason: evaluation.reason.to_string(),
        explanation,
    })
}
