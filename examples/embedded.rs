//! The engine without a server: definitions that are part of the program.
//!
//! It shows rules, a split that never changes its mind about a user, and `explain`. Nothing has to run:
//!
//! ```text
//! cargo run --example embedded
//! ```

#![expect(clippy::print_stdout, reason = "lines on the terminal are what this example shows")]

use flagd_client::{Client, Context};

const DEFINITIONS: &str = r#"{
  "flags": {
    "new-checkout": {
      "rules": [
        { "name": "staff", "if": { "segment": "staff" }, "serve": "on" },
        { "name": "dach", "if": { "attribute": "country", "in": ["DE", "AT", "CH"] },
          "serve": { "split": { "on": 25, "off": 75 } } }
      ]
    },
    "ranking": {
      "variants": { "classic": "v1", "fresh": "v2" }, "offVariant": "classic",
      "otherwise": { "split": { "classic": 90, "fresh": 10 } }
    }
  },
  "segments": { "staff": { "if": { "attribute": "email", "endsWith": "@example.com" } } }
}"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let flags = Client::embedded(DEFINITIONS)?;

    let colleague = Context::new("user-1").with("email", "ada@example.com");
    let customers = (1..=1_000).map(|number| Context::new(format!("user-{number}")).with("country", "DE"));
    let customers: Vec<Context> = customers.collect();

    let detail = flags.is_enabled_detail("new-checkout", &colleague);
    println!("a colleague:       {} ({})", detail.value, detail.reason);
    let on = customers.iter().filter(|customer| flags.is_enabled("new-checkout", customer)).count();
    println!("1,000 customers:   {on} are in; 25 % were asked for");
    let fresh = customers.iter().filter(|customer| flags.string("ranking", customer, "v1") == "v2").count();
    println!("the fresh ranking: {fresh} are in; 10 % were asked for");

    println!("\nWhy is a customer from Germany in or out?");
    let customer = Context::new("user-2").with("country", "DE");
    let explanation = flags.explain("new-checkout", &customer);
    for step in &explanation.steps {
        let indent = "  ".repeat(step.depth as usize + 1);
        println!("{indent}{}: {}", step.what, step.outcome);
    }
    println!("  => {} ({})", explanation.variant.unwrap_or_default(), explanation.reason);
    Ok(())
}
