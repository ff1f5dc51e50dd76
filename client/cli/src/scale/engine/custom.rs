//! Commands of the user's own: any engine, or a container runtime.

use std::time::Duration;

use super::super::command;
use super::super::policy::Stage;
use super::{Engine, Fault, Launch, fresh, quoted};

/// Three commands for a shell, with `{name}` and `{command}` in them.
pub struct Custom {
    pub launch: Launch,
    pub start: String,
    pub list: String,
    pub stop: String,
    pub limit: Duration,
}

impl Custom {
    fn run(&self, template: &str, name: &str) -> Result<String, Fault> {
        let script = self.filled(template, name);
        command::run("sh", &["-c".into(), script], "", self.limit)
    }

    fn filled(&self, template: &str, name: &str) -> String {
        let name = quoted(name);
        template.replace("{command}", &self.launch.line(&name)).replace("{name}", &name)
    }
}

impl Engine for Custom {
    fn check(&mut self) -> Result<(), Fault> {
        self.list().map(drop)
    }

    fn list(&mut self) -> Result<Vec<(String, Stage)>, Fault> {
        let listed = self.run(&self.list, "")?;
        parse(&listed, &self.launch.name)
    }

    fn start(&mut self, count: u32) -> Result<Vec<String>, Fault> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let name = fresh(&self.launch.name);
            match self.run(&self.start, &name) {
                Ok(_) => ids.push(name),
                Err(fault) if ids.is_empty() => return Err(fault),
                // The next time it is said.
                Err(_) => break,
            }
        }
        Ok(ids)
    }

    fn stop(&mut self, ids: &[String]) -> Result<(), Fault> {
        ids.iter().try_for_each(|id| self.run(&self.stop, id).map(drop))
    }

    /// Nothing is known of it.
    fn listed_within(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn script(&self) -> String {
        let name = format!("{}-NAME", self.launch.name);
        let commands = [("start", &self.start), ("list", &self.list), ("stop", &self.stop)];
        commands.map(|(what, template)| format!("# {what}\n{}\n", self.filled(template, &name))).concat()
    }
}

/// Parses a list: a name a line, and a stage behind it, which is running if it is not there. Names of
/// others are left out.
fn parse(listed: &str, name: &str) -> Result<Vec<(String, Stage)>, Fault> {
    let prefix = format!("{name}-");
    let lines = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = lines.filter(|words| words.first().is_some_and(|first| first.starts_with(&prefix)));
    ours.map(|words| {
        let stage = match *words.get(1).unwrap_or(&"running") {
            "running" => Stage::Running,
            "queued" => Stage::Queued,
            "ending" => Stage::Ending,
            other => return Err(format!("--list says '{other}' of {}: it is queued, running or ending", words[0])),
        };
        Ok((words[0].to_string(), stage))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_a_name_a_line_and_those_of_others_are_left_out() {
        let listed = "giostra-a-1\nother-1 running\n\ngiostra-a-2 queued\n  giostra-a-3   ending  x\ngiostra-b-1 odd\n";
        let expected =
            [("giostra-a-1", Stage::Running), ("giostra-a-2", Stage::Queued), ("giostra-a-3", Stage::Ending)];
        assert_eq!(parse(listed, "giostra-a").unwrap(), expected.map(|(name, stage)| (name.to_string(), stage)));
        assert!(parse(listed, "giostra-b").unwrap_err().contains("'odd'"));
    }

    #[test]
    fn a_template_has_the_name_and_the_workers_command_line() {
        let launch = Launch {
            program: vec!["/opt/my programs/giostra-worker".into()],
            options: vec!["--pool".into(), "it's".into()],
            name: "g".into(),
        };
        let limit = command::LIMIT;
        let (start, list, stop) = ("run {name} {command}".into(), "ls".into(), "kill {name}".into());
        let custom = Custom { launch, start, list, stop, limit };
        assert_eq!(
            custom.filled(&custom.start, "g-1"),
            "run g-1 '/opt/my programs/giostra-worker' --name g-1 --pool \"it's\""
        );
    }
}
