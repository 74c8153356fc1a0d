//! What every candidate is asked, said in nobody's language.
//!
//! A [`Spec`] is a small tree of flags and segments that each adapter writes down in its engine's own JSON. This file
//! makes the specs that are measured and the users who ask; it knows no engine.

use serde_json::Value;

/// Users in rotation: enough that no answer stays hot, few enough that their contexts are no load of their own.
pub const USERS: usize = 1_024;

/// The version that the comparison of versions asks for at least.
pub const VERSION: &str = "2.3.0";

/// The only segment.
pub const SEGMENT: &str = "members";

/// The countries of the membership condition; every user lives in one of them.
pub const COUNTRIES: [&str; 10] = ["AT", "BE", "CH", "DE", "DK", "ES", "FR", "IT", "NL", "PL"];

/// The values of a four-way flag, which are also its variants' names.
pub const LETTERS: [&str; 4] = ["a", "b", "c", "d"];

const SEGMENT_UNITS: usize = 10_000;
const MIXED_FLAGS: usize = 1_000;

/// Definitions in nobody's language.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// The flags, in no special order.
    pub flags: Vec<Flag>,
    /// The members of [`SEGMENT`]; none when no flag asks for it.
    pub members: Vec<String>,
}

/// One flag: the first rule whose conditions all hold decides, else `otherwise`.
#[derive(Clone, Debug)]
pub struct Flag {
    /// Nineteen bytes.
    pub name: String,
    /// Tried in order.
    pub rules: Vec<Rule>,
    /// What everybody else is served.
    pub otherwise: Serve,
}

/// Conditions that must all hold, and what is served then.
#[derive(Clone, Debug)]
pub struct Rule {
    /// All of them.
    pub conditions: Vec<Condition>,
    /// What is served when they hold.
    pub serve: Serve,
}

/// A question about a user.
#[derive(Clone, Debug)]
pub enum Condition {
    /// The attribute is this text.
    Equals {
        /// Its name.
        attribute: &'static str,
        /// The text.
        text: String,
    },
    /// The attribute is one of [`COUNTRIES`].
    InCountries {
        /// Its name.
        attribute: &'static str,
    },
    /// The attribute is [`VERSION`] or a later one.
    VersionAtLeast {
        /// Its name.
        attribute: &'static str,
    },
    /// The user is in [`SEGMENT`].
    Member,
}

/// What a flag serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serve {
    /// True.
    On,
    /// False.
    Off,
    /// True to this share of the users, in percent.
    Share(u32),
    /// Each of [`LETTERS`] to a quarter.
    FourWays,
}

/// The type of a flag's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Boolean,
    /// One of [`LETTERS`].
    Letter,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct User {
    /// Sixteen bytes.
    pub id: String,
    /// Attributes: `appVersion`, `country`, `plan`, `tier`.
    pub attributes: [(&'static str, String); 4],
}

/// The six questions of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A flag without rules that is on.
    Plain,
    /// On for 25 %.
    Share,
    /// Equality, membership in ten, version; then 25 %.
    ThreeConditions,
    /// Ten rules on one attribute, of which the last holds.
    TenRules,
    /// A segment of 10,000, of which half the users are members.
    Segment,
    /// Four variants, a quarter each.
    FourWays,
}

impl Task {
    /// In the order of the tables.
    pub const ALL: [Task; 6] =
        [Task::Plain, Task::Share, Task::ThreeConditions, Task::TenRules, Task::Segment, Task::FourWays];

    /// The head of its column.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Task::Plain => "(a) plain",
            Task::Share => "(b) 25 %",
            Task::ThreeConditions => "(c) rule of 3",
            Task::TenRules => "(d) 10 rules",
            Task::Segment => "(e) 10k segment",
            Task::FourWays => "(f) 4-way",
        }
    }

    /// Its flag, under this name.
    #[must_use]
    pub fn flag(self, name: String) -> Flag {
        let tier = |n: usize| Condition::Equals { attribute: "tier", text: format!("tier-{n:02}") };
        let (rules, otherwise) = match self {
            Task::Plain => (Vec::new(), Serve::On),
            Task::Share => (Vec::new(), Serve::Share(25)),
            Task::ThreeConditions => {
                let conditions = vec![
                    Condition::Equals { attribute: "plan", text: "pro".to_owned() },
                    Condition::InCountries { attribute: "country" },
                    Condition::VersionAtLeast { attribute: "appVersion" },
                ];
                (vec![Rule { conditions, serve: Serve::Share(25) }], Serve::Off)
            }
            Task::TenRules => {
                let rule = |n| Rule { conditions: vec![tier(n)], serve: Serve::On };
                ((1..=10).map(rule).collect(), Serve::Off)
            }
            Task::Segment => {
                (vec![Rule { conditions: vec![Condition::Member], serve: Serve::On }], Serve::Off)
            }
            Task::FourWays => (Vec::new(), Serve::FourWays),
        };
        Flag { name, rules, otherwise }
    }

    /// The name of its flag in [`Spec::mixed`].
    #[must_use]
    pub fn name(self) -> String {
        let at = Task::ALL.iter().position(|task| *task == self).unwrap_or_default();
        name(MIXED_FLAGS + at)
    }
}

impl Flag {
    /// The type of its values.
    #[must_use]
    pub fn kind(&self) -> Kind {
        if self.otherwise == Serve::FourWays { Kind::Letter } else { Kind::Boolean }
    }

    /// Whether a rule asks for the segment.
    #[must_use]
    pub fn asks_for_the_segment(&self) -> bool {
        let is_member = |condition: &Condition| matches!(condition, Condition::Member);
        self.rules.iter().flat_map(|rule| &rule.conditions).any(is_member)
    }
}

impl Spec {
    /// A thousand flags - half plain, 30 % with a share, 15 % with three conditions, 5 % four-way - and the six of
    /// the tasks.
    #[must_use]
    pub fn mixed() -> Spec {
        let sort = |n: usize| match n % 20 {
            0..10 => Task::Plain,
            10..16 => Task::Share,
            16..19 => Task::ThreeConditions,
            _ => Task::FourWays,
        };
        let mix = (0..MIXED_FLAGS).map(|n| sort(n).flag(name(n)));
        let tasks = Task::ALL.into_iter().map(|task| task.flag(task.name()));
        Spec { flags: mix.chain(tasks).collect(), members: (0..SEGMENT_UNITS).map(member).collect() }
    }

    /// Simple flags, each on for 25 %.
    #[must_use]
    pub fn simple(flags: usize) -> Spec {
        let flags = (0..flags).map(|n| simple_flag(n, 25)).collect();
        Spec { flags, members: Vec::new() }
    }
}

/// The simple flag with this number, on for a share of the users in percent.
#[must_use]
pub fn simple_flag(number: usize, share: u32) -> Flag {
    Flag { name: name(number), rules: Vec::new(), otherwise: Serve::Share(share) }
}

/// The users: every other one is a member of the segment.
#[must_use]
pub fn users() -> Vec<User> {
    let user = |n: usize| User {
        id: if n.is_multiple_of(2) { member(n * 4) } else { format!("strang-{n:09}") },
        attributes: [
            ("appVersion", format!("2.{}.{}", 3 + n % 20, n % 10)),
            ("country", COUNTRIES.get(n % COUNTRIES.len()).copied().unwrap_or_default().to_owned()),
            ("plan", "pro".to_owned()),
            ("tier", "tier-10".to_owned()),
        ],
    };
    (0..USERS).map(user).collect()
}

/// A JSON object with one member more; anything else stays as it is.
#[must_use]
pub fn with(mut object: Value, name: &str, member: Value) -> Value {
    if let Value::Object(members) = &mut object {
        members.insert(name.to_owned(), member);
    }
    object
}

fn member(n: usize) -> String {
    format!("member-{n:09}")
}

fn name(n: usize) -> String {
    format!("service-flag-{n:06}")
}
