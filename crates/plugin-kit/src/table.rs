//! The properties as a Markdown table.

use std::fmt::Write;

use crate::list::PROPERTIES;

/// One row per property. `killed` returns the names of the mutants that a property catches.
pub fn table(killed: impl Fn(&str) -> Vec<String>) -> String {
    let mut table = String::from(
        "| property | what holds | premise | exempt by | mutants that it kills |\n\
         |---|---|---|---|---|\n",
    );
    for property in PROPERTIES {
        let exempt: Vec<&str> = property.exempt.iter().map(|c| c.declaration()).collect();
        let mutants: Vec<String> =
            killed(property.name).iter().map(|mutant| format!("`{mutant}`")).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "| `{}` | {} | {} | {} | {} |",
            property.name,
            property.statement,
            if property.premise.is_empty() { "always" } else { property.premise },
            if exempt.is_empty() { "nothing".into() } else { exempt.join(", ") },
            mutants.join(", ")
        );
    }
    table
}
