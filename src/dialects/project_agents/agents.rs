//! The twelve agents, and which of them a wish calls for. Pure.

use serde_json::{Value, json};

/// An agent, as the page lists it.
struct Agent {
    id: &'static str,
    name: &'static str,
    icon: &'static str,
    description: &'static str,
    capabilities: &'static [&'static str],
    output: &'static str,
    /// Words of a wish that call for it; an agent without any always works.
    called_by: &'static [&'static str],
}

/// In the order of their work.
const AGENTS: [Agent; 12] = [
    Agent {
        id: "database",
        name: "Database Agent",
        icon: "🗄️",
        description: "Designs the tables that the application keeps its data in",
        capabilities: &["Schema design", "Indexes", "Constraints", "Seed data"],
        output: "SQL schema and seed data",
        called_by: &["data", "store", "save", "sql", "table", "record", "daten", "speicher"],
    },
    Agent {
        id: "api_architect",
        name: "API Architect Agent",
        icon: "🔌",
        description: "Designs the routes that pages and programs call",
        capabilities: &["REST design", "Route tables", "Error codes"],
        output: "API documentation",
        called_by: &["api", "rest", "endpoint", "integrat", "schnittstelle"],
    },
    Agent {
        id: "uiux_designer",
        name: "UI/UX Designer Agent",
        icon: "🎨",
        description: "Designs how the pages look and feel",
        capabilities: &["Layouts", "Colours", "Light and dark", "Accessibility"],
        output: "Style sheets",
        called_by: &["design", "look", "page", "screen", "mobile", "theme", "oberfläche"],
    },
    Agent {
        id: "image_generator",
        name: "Image Generator Agent",
        icon: "🖼️",
        description: "Draws the pictures that the application needs",
        capabilities: &["Logos", "Icons", "Vector graphics"],
        output: "SVG pictures",
        called_by: &["logo", "icon", "image", "picture", "bild"],
    },
    Agent {
        id: "backend",
        name: "Backend Agent",
        icon: "⚙️",
        description: "Writes the server",
        capabilities: &["HTTP server", "Database access", "Validation"],
        output: "Server code",
        called_by: &[],
    },
    Agent {
        id: "frontend",
        name: "Frontend Agent",
        icon: "💻",
        description: "Writes the pages, for each target platform",
        capabilities: &["HTML", "JavaScript", "Forms", "Live updates"],
        output: "Frontend code",
        called_by: &[],
    },
    Agent {
        id: "security",
        name: "Security Agent",
        icon: "🔒",
        description: "Looks for what an attacker could use",
        capabilities: &["Injection checks", "Header policies", "Limits"],
        output: "Security report",
        called_by: &["secur", "login", "auth", "password", "user", "pay", "sicher", "anmeld"],
    },
    Agent {
        id: "performance",
        name: "Performance Agent",
        icon: "⚡",
        description: "Looks for what makes the application slow",
        capabilities: &["Page weight", "Query plans", "Caching"],
        output: "Performance report",
        called_by: &["fast", "perform", "scale", "thousand", "million", "schnell"],
    },
    Agent {
        id: "testing",
        name: "Testing Agent",
        icon: "🧪",
        description: "Writes tests of the whole application",
        capabilities: &["End-to-end tests", "Refusals", "Edge cases"],
        output: "Test suite",
        called_by: &[],
    },
    Agent {
        id: "devops",
        name: "DevOps Agent",
        icon: "🚀",
        description: "Prepares how the application is run",
        capabilities: &["Containers", "Make targets"],
        output: "Dockerfile and Makefile",
        called_by: &["deploy", "docker", "cloud", "server", "ci"],
    },
    Agent {
        id: "documentation",
        name: "Documentation Agent",
        icon: "📚",
        description: "Writes what people need to know",
        capabilities: &["README", "Set-up steps"],
        output: "README",
        called_by: &[],
    },
    Agent {
        id: "code_review",
        name: "Code Review Agent",
        icon: "🔍",
        description: "Reads everything that the others wrote",
        capabilities: &["Compilation", "Style", "Size"],
        output: "Review report",
        called_by: &[],
    },
];

/// `GET /api/agents/types`
pub fn types() -> Value {
    let agents: Vec<Value> = AGENTS
        .iter()
        .map(|agent| {
            json!({
                "id": agent.id, "type": agent.id, "name": agent.name, "icon": agent.icon,
                "description": agent.description, "capabilities": agent.capabilities, "output": agent.output,
            })
        })
        .collect();
    let workflow: Vec<&str> = AGENTS.iter().map(|agent| agent.id).collect();
    json!({ "total_agents": AGENTS.len(), "agents": agents, "workflow": workflow })
}

/// `POST /api/agents/analyze`: which agents a text calls for, and what the project is like.
pub fn analyze(text: &str) -> Value {
    let lower = text.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let has = |beginning: &&str| words.iter().any(|word| word.starts_with(*beginning));
    let called = |agent: &&Agent| agent.called_by.is_empty() || agent.called_by.iter().any(&has);
    let workflow: Vec<&str> = AGENTS.iter().filter(called).map(|agent| agent.id).collect();
    let wishes = text
        .split(['\n', '.', ';'])
        .map(|wish| wish.trim_start_matches(['-', '*', '•', ' ']).trim())
        .filter(|wish| wish.chars().any(char::is_alphabetic));
    let features: Vec<String> = wishes.take(20).map(|wish| wish.chars().take(200).collect()).collect();
    let platforms = ["react", "vue", "angular", "flutter", "android", "ios"];
    let platforms: Vec<&str> = platforms.into_iter().filter(|platform| words.contains(platform)).collect();
    let complexity = match features.len() {
        0..=3 => "low",
        4..=8 => "medium",
        _ => "high",
    };
    let app_type = if ["mobile", "android", "ios", "flutter"].iter().any(has) { "mobile" } else { "web" };
    json!({
        "analysis": {
            "word_count": words.len(),
            "features": features,
            "complexity": complexity,
            "app_type": app_type,
            "target_platforms": if platforms.is_empty() { vec!["react"] } else { platforms },
        },
        "suggested_workflow": workflow,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_twelve_agents_in_the_order_of_the_stages() {
        let types = types();
        assert_eq!(types["total_agents"], 12);
        assert_eq!(types["agents"].as_array().unwrap().len(), 12);
        assert_eq!(
            (&types["workflow"][0], &types["workflow"][11]),
            (&json!("database"), &json!("code_review"))
        );
    }

    #[test]
    fn a_wish_calls_for_the_agents_that_it_speaks_of() {
        let said = analyze("Users log in with a password.\n- Store recipes\n- A Vue page");
        let workflow = said["suggested_workflow"].to_string();
        for agent in ["database", "security", "backend", "uiux_designer", "testing"] {
            assert!(workflow.contains(agent), "{workflow}");
        }
        assert!(!workflow.contains("image_generator") && !workflow.contains("performance"), "{workflow}");
        assert_eq!(said["analysis"]["target_platforms"], json!(["vue"]));
        assert_eq!(
            said["analysis"]["features"],
            json!(["Users log in with a password", "Store recipes", "A Vue page"])
        );
        assert_eq!(analyze("")["suggested_workflow"].as_array().unwrap().len(), 5);
    }
}
