//! A process as a recording describes it. Apart from [`crate::discover::Process`], so that the format does not change
//! where the agent does.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::discover::{Decision, Exclusion, Language, Process, Runtime};
use crate::enrich::Resource;
use crate::span::{Attribute, AttributeValue, ProcessId, Scheduling};

#[derive(Serialize, Deserialize)]
struct Description<'a> {
    tgid: u32,
    started: u64,
    exe: Cow<'a, str>,
    comm: Cow<'a, str>,
    cmdline: Cow<'a, str>,
    container_id: Option<Cow<'a, str>>,
    language: LanguageName,
    runtime_version: Option<Cow<'a, str>>,
    scheduling: SchedulingName,
    excluded: Option<ExclusionName>,
    resource: Vec<(Cow<'a, str>, Value<'a>)>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Value<'a> {
    Str(Cow<'a, str>),
    Int(i64),
    /// Its bits: JSON has no way to write all of them.
    Double(u64),
    Bool(bool),
    StrArray(Vec<Cow<'a, str>>),
}

/// Declares an enum of the format beside the agent's, and the two ways between them.
macro_rules! names {
    ($name:ident for $of:ty { $($variant:ident = $theirs:path),+ $(,)? }) => {
        #[derive(Clone, Copy, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum $name {
            $($variant),+
        }

        impl From<$of> for $name {
            fn from(value: $of) -> Self {
                match value {
                    $($theirs => Self::$variant),+
                }
            }
        }

        impl From<$name> for $of {
            fn from(name: $name) -> Self {
                match name {
                    $($name::$variant => $theirs),+
                }
            }
        }
    };
}

names!(SchedulingName for Scheduling {
    Unknown = Scheduling::Unknown,
    RunToCompletion = Scheduling::RunToCompletion,
    Moving = Scheduling::Moving,
});

names!(ExclusionName for Exclusion {
    Sonde = Exclusion::Sonde,
    Infrastructure = Exclusion::Infrastructure,
    Backend = Exclusion::Backend,
    NotATarget = Exclusion::NotATarget,
});

names!(LanguageName for Language {
    Native = Language::Native,
    Go = Language::Go,
    Node = Language::Node,
    Bun = Language::Bun,
    Deno = Language::Deno,
    Python = Language::Python,
    Java = Language::Java,
    DotNet = Language::DotNet,
    Beam = Language::Beam,
    Ruby = Language::Ruby,
    Php = Language::Php,
    Perl = Language::Perl,
    Shell = Language::Shell,
});

/// Describes a process.
pub(super) fn encode(process: &Process) -> Result<Vec<u8>, serde_json::Error> {
    let Process { id, exe, comm, cmdline, container_id, runtime, scheduling, resource, decision } = process;
    let attributes = resource.attributes.iter();
    serde_json::to_vec(&Description {
        tgid: id.tgid,
        started: id.started,
        exe: exe.into(),
        comm: comm.into(),
        cmdline: cmdline.into(),
        container_id: container_id.as_deref().map(Cow::Borrowed),
        language: runtime.language.into(),
        runtime_version: runtime.version.as_deref().map(Cow::Borrowed),
        scheduling: (*scheduling).into(),
        excluded: match *decision {
            Decision::Observed => None,
            Decision::Excluded(why) => Some(why.into()),
        },
        resource: attributes
            .map(|attribute| (Cow::Borrowed(&*attribute.key), value(&attribute.value)))
            .collect(),
    })
}

/// Reads a description.
pub(super) fn decode(bytes: &[u8]) -> Result<Process, serde_json::Error> {
    let described: Description<'_> = serde_json::from_slice(bytes)?;
    let attribute =
        |(key, value): (Cow<'_, str>, Value<'_>)| Attribute { key: owned(key), value: own_value(value) };
    Ok(Process {
        id: ProcessId { tgid: described.tgid, started: described.started },
        exe: described.exe.into_owned(),
        comm: described.comm.into_owned(),
        cmdline: described.cmdline.into_owned(),
        container_id: described.container_id.map(Cow::into_owned),
        runtime: Runtime {
            language: described.language.into(),
            version: described.runtime_version.map(Cow::into_owned),
        },
        scheduling: described.scheduling.into(),
        resource: Arc::new(Resource { attributes: described.resource.into_iter().map(attribute).collect() }),
        decision: described.excluded.map_or(Decision::Observed, |why| Decision::Excluded(why.into())),
    })
}

fn value(value: &AttributeValue) -> Value<'_> {
    match value {
        AttributeValue::Str(text) => Value::Str(Cow::Borrowed(text)),
        AttributeValue::Int(number) => Value::Int(*number),
        AttributeValue::Double(number) => Value::Double(number.to_bits()),
        AttributeValue::Bool(truth) => Value::Bool(*truth),
        AttributeValue::StrArray(texts) => {
            Value::StrArray(texts.iter().map(|text| Cow::Borrowed(&**text)).collect())
        }
    }
}

fn own_value(value: Value<'_>) -> AttributeValue {
    match value {
        Value::Str(text) => AttributeValue::Str(owned(text)),
        Value::Int(number) => AttributeValue::Int(number),
        Value::Double(bits) => AttributeValue::Double(f64::from_bits(bits)),
        Value::Bool(truth) => AttributeValue::Bool(truth),
        Value::StrArray(texts) => AttributeValue::StrArray(texts.into_iter().map(owned).collect()),
    }
}

fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}
