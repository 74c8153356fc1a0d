//! Reads a flag: variants, requirements, rules and splits.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::condition::collect;
use super::json::{At, Kind, Object, Reader, listed};
use super::segment::Skip;
use super::words;
use super::{FlagDefinition, FlagType, Layout, Ppm, Requirement, Rule, Serve, Split, Stretch, Switch};
use crate::canonical;
use crate::key::{FlagKey, RuleName, VariantName};
use crate::limits;
use crate::problem::nearest;
use crate::split::LINE;

type Variants = BTreeMap<VariantName, Value>;

impl<'a> Reader<'a> {
    /// A flag's definition.
    pub(super) fn flag(&mut self, at: &At<'_, 'a>, key: &str, skip: Skip) -> Option<FlagDefinition> {
        self.conditions = 0;
        let object = self.object_with(at, "a flag", words::FLAG, |name| skip.skips(name))?;
        let about = self.about(at, &object, skip);
        let variants = match object.get("variants") {
            None => on_and_off(),
            Some(text) => self.variants(&at.key("variants", text)),
        };
        let known = variants.as_ref();
        let off_variant = self.off_variant(at, &object, known);
        let switch = match object.get("enabled").map(|text| self.boolean(&at.key("enabled", text))) {
            None | Some(Some(true)) => Some(Switch::Enabled),
            Some(Some(false)) => Some(Switch::Disabled),
            Some(None) => None,
        };
        let salt = match object.get("salt") {
            None => Some(key.into()),
            Some(text) => self.text(&at.key("salt", text), "a salt", limits::SALT_MAX_BYTES).map(Into::into),
        };
        let requires = object.get("requires").map(|text| self.requires(&at.key("requires", text), key));
        let rules = object.get("rules").map(|text| self.rules(&at.key("rules", text), known));
        let otherwise = self.otherwise(at, &object, known, off_variant.as_ref());
        Some(FlagDefinition {
            about: about?,
            off_variant: off_variant?,
            switch: switch?,
            salt: salt?,
            requires: requires.unwrap_or_else(|| Some(Vec::new()))?,
            rules: rules.unwrap_or_else(|| Some(Vec::new()))?,
            otherwise: otherwise?,
            variants: variants?,
        })
    }

    fn variants(&mut self, at: &At<'_, 'a>) -> Option<Variants> {
        let object = self.members(at, "an object of names and values", |_| false)?;
        let count = object.members().len();
        if count == 0 {
            self.problem_hint(at, "a flag has at least one variant", "leave `variants` out for on and off");
            return None;
        }
        if count > limits::VARIANTS_MAX {
            self.problem(
                at,
                format!("a flag has at most {} variants; this one has {count}", limits::VARIANTS_MAX),
            );
            return None;
        }
        let mut first: Option<(FlagType, &str)> = None;
        let read = object.members().iter().map(|member| {
            let at = at.key(&member.name, member.text);
            let name = match VariantName::new(&member.name) {
                Ok(name) => Some(name),
                Err(error) => {
                    self.note(&at, member.key_text, error.to_string(), None);
                    None
                }
            };
            let value = self.value(&at)?;
            self.check_size(&at, "a variant's value", &value, limits::VALUE_MAX_BYTES)?;
            let Some(flag_type) = FlagType::of(&value) else {
                self.problem(&at, "a variant's value must not be null");
                return None;
            };
            let (wanted, example) = *first.get_or_insert((flag_type, member.name.as_ref()));
            if flag_type != wanted {
                let message = format!(
                    "all variants of a flag are of one type: this one is of type {}, `{example}` of type {}",
                    flag_type.word(),
                    wanted.word()
                );
                self.problem(&at, message);
                return None;
            }
            Some((name?, value))
        });
        collect(read).map(|list| list.into_iter().collect())
    }

    fn off_variant(
        &mut self,
        at: &At<'_, 'a>,
        object: &Object<'a>,
        variants: Option<&Variants>,
    ) -> Option<VariantName> {
        if let Some(text) = object.get("offVariant") {
            return self.variant(&at.key("offVariant", text), variants);
        }
        let variants = variants?;
        let off: Vec<&VariantName> = named(variants, &Value::Bool(false));
        if let ([off], 2, true) =
            (off.as_slice(), variants.len(), !named(variants, &Value::Bool(true)).is_empty())
        {
            return Some((*off).clone());
        }
        let likely = ["off", "disabled", "none", "control", "default", "false"];
        let guess = off.first().map(|name| name.as_str());
        let guess = guess.or_else(|| likely.into_iter().find(|name| variants.contains_key(*name)));
        let hint = match guess {
            Some(name) => format!("add \"offVariant\": \"{name}\""),
            None => "name the variant that a killed or disabled flag serves".to_owned(),
        };
        self.problem_hint(at, "`offVariant` is missing", hint);
        None
    }

    /// The name of one of the flag's variants.
    fn variant(&mut self, at: &At<'_, 'a>, variants: Option<&Variants>) -> Option<VariantName> {
        if at.kind() != Kind::String {
            let value = self.value(at)?;
            let meant = variants.map(|variants| named(variants, &value)).unwrap_or_default();
            match meant.first() {
                Some(name) => {
                    self.problem_hint(
                        at,
                        "a variant is named, not valued",
                        format!("did you mean \"{name}\"?"),
                    );
                }
                None => self.wrong_type(at, "the name of a variant"),
            }
            return None;
        }
        let text = self.string(at)?;
        let Some(variants) = variants else { return VariantName::new(&text).ok() };
        if let Some((name, _)) = variants.get_key_value(text.as_ref()) {
            return Some(name.clone());
        }
        self.unknown_variant(at, at.text, &text, variants);
        None
    }

    fn unknown_variant(&mut self, at: &At<'_, 'a>, place: &'a str, text: &str, variants: &Variants) {
        let hint = if let Some(name) = nearest(text, variants.keys().map(VariantName::as_str)) {
            format!("did you mean \"{name}\"?")
        } else {
            let names: Vec<&str> = variants.keys().take(10).map(VariantName::as_str).collect();
            let more = if variants.len() > names.len() { " ..." } else { "" };
            format!("its variants are {}{more}", listed(&names))
        };
        self.note(at, place, format!("the flag has no variant `{text}`"), Some(hint));
    }

    fn requires(&mut self, at: &At<'_, 'a>, key: &str) -> Option<Vec<Requirement>> {
        let elements = self.list(at, "a list of requirements", limits::REQUIRES_MAX)?;
        let mut seen: BTreeSet<FlagKey> = BTreeSet::new();
        collect(elements.iter().enumerate().map(|(index, text)| {
            let at = at.index(index, text);
            let requirement = self.requirement(&at, key)?;
            if !seen.insert(requirement.flag.clone()) {
                let message = format!("`{}` is required twice", requirement.flag);
                self.problem_hint(&at, message, "name all variants that satisfy in one `serves`");
                return None;
            }
            Some(requirement)
        }))
    }

    fn requirement(&mut self, at: &At<'_, 'a>, key: &str) -> Option<Requirement> {
        let object = self.object(at, "a requirement", words::REQUIREMENT)?;
        let example = "{\"flag\": \"payments-v2\", \"serves\": [\"on\"]}";
        let flag = self.required(at, &object, "flag", example).and_then(|text| {
            let at = at.key("flag", text);
            let name = self.string(&at)?;
            match FlagKey::new(&name) {
                Ok(flag) if flag.as_str() == key => {
                    self.problem(&at, "a flag cannot require itself");
                    None
                }
                Ok(flag) => Some(flag),
                Err(error) => {
                    self.problem(&at, error.to_string());
                    None
                }
            }
        });
        let serves = self.required(at, &object, "serves", example).and_then(|text| {
            let at = at.key("serves", text);
            let elements = self.list(&at, "a list of variants", limits::VARIANTS_MAX)?;
            if elements.is_empty() {
                self.problem(&at, "this list must not be empty");
                return None;
            }
            let names = collect(elements.iter().enumerate().map(|(index, text)| {
                let at = at.index(index, text);
                let name = self.string(&at)?;
                VariantName::new(&name).map_err(|error| self.problem(&at, error.to_string())).ok()
            }))?;
            let sorted: BTreeSet<VariantName> = names.into_iter().collect();
            Some(sorted.into_iter().collect::<Vec<_>>())
        });
        Some(Requirement { flag: flag?, serves: serves? })
    }

    fn required(
        &mut self,
        at: &At<'_, 'a>,
        object: &Object<'a>,
        name: &str,
        example: &str,
    ) -> Option<&'a str> {
        let found = object.get(name);
        if found.is_none() {
            self.problem_hint(at, format!("`{name}` is missing"), format!("such as {example}"));
        }
        found
    }

    fn rules(&mut self, at: &At<'_, 'a>, variants: Option<&Variants>) -> Option<Vec<Rule>> {
        let elements = self.list(at, "a list of rules", limits::RULES_MAX)?;
        let mut seen: BTreeSet<RuleName> = BTreeSet::new();
        collect(elements.iter().enumerate().map(|(index, text)| {
            let at = at.index(index, text);
            let (name_text, rule) = self.rule(&at, variants)?;
            if !seen.insert(rule.name.clone()) {
                let message = format!("a rule named `{}` comes earlier", rule.name);
                self.problem_hint(&at.key("name", name_text), message, "give each rule a name of its own");
                return None;
            }
            Some(rule)
        }))
    }

    fn rule(&mut self, at: &At<'_, 'a>, variants: Option<&Variants>) -> Option<(&'a str, Rule)> {
        let object = self.object(at, "a rule", words::RULE)?;
        let name_text = self.required(at, &object, "name", "\"name\": \"staff\"");
        let name = name_text.and_then(|text| {
            let at = at.key("name", text);
            let name = self.string(&at)?;
            RuleName::new(&name).map_err(|error| self.problem(&at, error.to_string())).ok()
        });
        let condition = self
            .required(at, &object, "if", "\"if\": {\"segment\": \"staff\"}")
            .and_then(|text| self.condition(&at.key("if", text), 1));
        let serve = self
            .required(at, &object, "serve", "\"serve\": \"on\"")
            .and_then(|text| self.serve(&at.key("serve", text), variants));
        Some((name_text?, Rule { name: name?, condition: condition?, serve: serve? }))
    }

    fn otherwise(
        &mut self,
        at: &At<'_, 'a>,
        object: &Object<'a>,
        variants: Option<&Variants>,
        off_variant: Option<&VariantName>,
    ) -> Option<Serve> {
        let stated = object.get("otherwise").map(|text| self.serve(&at.key("otherwise", text), variants));
        let Some(text) = object.get("rollout") else {
            return stated.unwrap_or_else(|| off_variant.cloned().map(Serve::Variant));
        };
        let at = at.key("rollout", text);
        if stated.is_some() {
            let message = "`rollout` is short for a split in `otherwise`, which is stated too";
            self.problem_hint(&at, message, "leave one of the two out");
            return None;
        }
        let share = self.share(&at);
        let variants = variants?;
        let [on, off] = ["on", "off"].map(|name| variants.get_key_value(name));
        let (2, Some((on, Value::Bool(true))), Some((off, Value::Bool(false)))) = (variants.len(), on, off)
        else {
            let message = "`rollout` is only for flags with the variants on (true) and off (false)";
            self.problem_hint(&at, message, "state \"otherwise\": {\"split\": {...}}");
            return None;
        };
        let share = share?;
        let rest = Ppm(LINE.saturating_sub(share.0));
        let shares = BTreeMap::from([(on.clone(), share), (off.clone(), rest)]);
        Some(Serve::Split(Split { layout: Layout::Shares(shares), by: None }))
    }

    /// A variant's name, or a split.
    fn serve(&mut self, at: &At<'_, 'a>, variants: Option<&Variants>) -> Option<Serve> {
        if at.kind() != Kind::Object {
            return self.variant(at, variants).map(Serve::Variant);
        }
        let members = self.members(at, "an object", |_| true)?;
        let all_shares = members.members().iter().all(|member| Kind::of(member.text) == Kind::Number);
        if members.get("split").is_none() && all_shares && !members.members().is_empty() {
            self.problem_hint(
                at,
                "shares stand in `split`",
                format!("write {{\"split\": {}}}", shortened(at.text)),
            );
            return None;
        }
        let object = self.object(at, "a split", words::SPLIT)?;
        let by = match object
            .get("by")
            .map(|text| self.text(&at.key("by", text), "the name of an attribute", limits::OPERAND_MAX_BYTES))
        {
            None => Some(None),
            Some(by) => by.map(|by| Some(by.into())),
        };
        let text = self.required(at, &object, "split", "\"split\": {\"on\": 25, \"off\": 75}")?;
        let at = at.key("split", text);
        let layout = match at.kind() {
            Kind::Object => self.shares(&at, variants),
            Kind::Array => self.stretches(&at, variants),
            _ => {
                self.wrong_type(&at, "an object of shares or a list of stretches");
                None
            }
        };
        Some(Serve::Split(Split { layout: layout?, by: by? }))
    }

    fn shares(&mut self, at: &At<'_, 'a>, variants: Option<&Variants>) -> Option<Layout> {
        let object = self.members(at, "an object of shares", |_| false)?;
        let list = collect(object.members().iter().map(|member| {
            let at = at.key(&member.name, member.text);
            self.arm(&at, &member.name, member.key_text, variants)
        }))?;
        if object.left_out() {
            return None;
        }
        self.sums_to_100(at, list.iter().map(|(_, share)| *share))?;
        Some(Layout::Shares(list.into_iter().collect()))
    }

    fn stretches(&mut self, at: &At<'_, 'a>, variants: Option<&Variants>) -> Option<Layout> {
        let elements = self.list(at, "a list of stretches", limits::STRETCHES_MAX)?;
        let list = collect(elements.iter().enumerate().map(|(index, text)| {
            let at = at.index(index, text);
            let object = self.members(&at, "a stretch such as {\"on\": 25}", |_| false)?;
            let [member] = object.members() else {
                self.problem_hint(
                    &at,
                    "a stretch names one variant",
                    "such as [{\"on\": 25}, {\"off\": 75}]",
                );
                return None;
            };
            let (variant, length) =
                self.arm(&at.key(&member.name, member.text), &member.name, member.key_text, variants)?;
            Some(Stretch { variant, length })
        }))?;
        self.sums_to_100(at, list.iter().map(|stretch| stretch.length))?;
        Some(Layout::Stretches(list))
    }

    fn arm(
        &mut self,
        at: &At<'_, 'a>,
        name: &str,
        key_text: &'a str,
        variants: Option<&Variants>,
    ) -> Option<(VariantName, Ppm)> {
        let variant = match variants {
            None => VariantName::new(name).ok(),
            Some(variants) => variants.get_key_value(name).map(|(name, _)| name.clone()),
        };
        if let (None, Some(variants)) = (&variant, variants) {
            self.unknown_variant(at, key_text, name, variants);
        }
        let share = self.share(at);
        Some((variant?, share?))
    }

    fn share(&mut self, at: &At<'_, 'a>) -> Option<Ppm> {
        if at.kind() != Kind::Number {
            self.wrong_type(at, "a percentage as a number");
            return None;
        }
        let share = canonical::parse_percent(at.text);
        if share.is_none() {
            self.problem(at, "a share is a percentage from 0 to 100 with at most four decimals");
        }
        share
    }

    fn sums_to_100(&mut self, at: &At<'_, 'a>, shares: impl Iterator<Item = Ppm>) -> Option<()> {
        let sum: u64 = shares.map(|share| u64::from(share.0)).sum();
        if sum == u64::from(LINE) {
            return Some(());
        }
        self.problem(at, format!("the shares sum to {}, not 100", canonical::percent_of(sum)));
        None
    }
}

/// The variants of a flag that states none.
fn on_and_off() -> Option<Variants> {
    let name = |text: &str| VariantName::new(text).ok();
    Some(BTreeMap::from([(name("on")?, Value::Bool(true)), (name("off")?, Value::Bool(false))]))
}

/// The variants with this value.
fn named<'v>(variants: &'v Variants, value: &Value) -> Vec<&'v VariantName> {
    variants.iter().filter(|(_, known)| *known == value).map(|(name, _)| name).collect()
}

fn shortened(text: &str) -> &str {
    if text.len() <= 60 && !text.contains('\n') { text } else { "{...}" }
}
