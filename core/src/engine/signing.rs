//! A record that is being signed, here or elsewhere.

use crate::key::SignError;
use crate::name::Name;
use crate::record::{RecordError, Unsigned, Verified};

use super::context::Context;
use super::event::PublishError;
use super::ids::{OpId, SignId};

/// One record and the signatures that it lacks.
pub(crate) struct Signing {
    unsigned: Unsigned,
    v2: (SignId, Option<Vec<u8>>),
    v1: Option<(SignId, Option<Vec<u8>>)>,
}

impl Signing {
    /// Asks for the signatures of a record of this name.
    pub(crate) fn begin(cx: &mut Context, op: OpId, name: Name, unsigned: Unsigned) -> Self {
        let v2 = (cx.sign(op, name, unsigned.message_v2()), None);
        let v1 = unsigned.message_v1().map(|message| (cx.sign(op, name, message), None));
        Self { unsigned, v2, v1 }
    }

    /// Takes a signature. Returns the record once it has all of them.
    pub(crate) fn signed(
        &mut self,
        cx: &Context,
        name: &Name,
        id: SignId,
        result: Result<Vec<u8>, SignError>,
    ) -> Option<Result<Verified, PublishError>> {
        // One that was asked for before this record was begun says nothing about it.
        let asked = match &mut self.v1 {
            _ if self.v2.0 == id => &mut self.v2.1,
            Some(v1) if v1.0 == id => &mut v1.1,
            _ => return None,
        };
        *asked = match result {
            Ok(signature) => Some(signature),
            Err(error) => return Some(Err(error.into())),
        };
        let v2 = self.v2.1.clone()?;
        let v1 = match &self.v1 {
            Some((_, signature)) => Some(signature.clone()?),
            None => None,
        };
        let record = match self.unsigned.clone().finish(v2, v1) {
            Ok(record) => record,
            Err(error) => return Some(Err(error.into())),
        };
        // A signer may live elsewhere and be the wrong one: what it gave is verified like anyone's.
        Some(match cx.checks().verify_record(record, name) {
            Ok(record) => Ok(record),
            Err(error @ RecordError::Expired { .. }) => Err(error.into()),
            Err(error) => Err(PublishError::BadSigner(error)),
        })
    }
}
