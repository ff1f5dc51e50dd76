//! `giostra keys`: makes and shows keys, and copies public ones into a broker's allow folder. It needs
//! no broker.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use giostra_protocol::name;
use giostra_transport::keys::{Certificate, KeyPair, PUBLIC_SUFFIX, Role, write_public};
use serde_json::json;

use super::exit::Exit;
use super::help;
use super::printed::stdout;

/// The subcommands of `giostra keys`.
#[derive(Clone, Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a pair of keys: NAME.key is public, only you can read NAME.key_secret
    New(KeysNew),
    /// Show the public keys in certificate files. Secret keys are never shown
    Show(KeysShow),
    /// Admit public certificates, by copying them to the broker's --allow folder
    Allow(KeysAllow),
}

/// The options of `giostra keys new`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::KEYS_NEW)]
pub struct KeysNew {
    /// Name of the owner, and of the files
    #[arg(value_parser = file_name)]
    pub name: String,

    /// Folder for the files; it is made if necessary
    #[arg(long, default_value = "keys", value_name = "DIR")]
    pub dir: PathBuf,
}

/// The options of `giostra keys show`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::KEYS_SHOW)]
pub struct KeysShow {
    /// Certificate files, public or secret
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// The options of `giostra keys allow`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::KEYS_ALLOW)]
pub struct KeysAllow {
    /// Public certificate files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// client: submit requests; worker: compute them; admin: see the status and drain workers.
    /// Several: --role client --role admin
    #[arg(long = "role", required = true, value_name = "client|worker|admin")]
    pub roles: Vec<Role>,

    /// The broker's --allow folder; it is made if necessary
    #[arg(long, default_value = "keys/allow", value_name = "DIR")]
    pub dir: PathBuf,
}

/// Runs a subcommand.
pub fn run(command: &KeysCommand, json: bool) -> anyhow::Result<Exit> {
    match command {
        KeysCommand::New(new) => generate(new, json),
        KeysCommand::Show(show) => show_all(show, json),
        KeysCommand::Allow(allow) => self::allow(allow, json),
    }?;
    Ok(Exit::Success)
}

fn generate(new: &KeysNew, json: bool) -> anyhow::Result<()> {
    let keys = KeyPair::generate()?;
    let [public, secret] = keys.write(&new.dir, &new.name)?.map(|file| file.display().to_string());
    if json {
        let made = json!({"name": new.name, "public_key": keys.public.to_string(), "public": public, "secret": secret});
        writeln!(stdout(), "{made}")?;
    } else {
        writeln!(stdout(), "{public}\n  public key {}: for anyone", keys.public)?;
        writeln!(stdout(), "{secret}\n  with the secret key: for --keys, where it is used, and for nobody else")?;
    }
    Ok(())
}

fn show_all(show: &KeysShow, json: bool) -> anyhow::Result<()> {
    let mut shown = Vec::new();
    for file in &show.files {
        let (certificate, _) = Certificate::read(file)?;
        let key = certificate.public_key(file)?;
        if json {
            let name = certificate.name;
            shown.push(json!({"file": file.display().to_string(), "name": name, "public_key": key.to_string(), "secret": certificate.secret.is_some()}));
        } else {
            let also = if certificate.secret.is_some() { "  (and the secret key, not shown)" } else { "" };
            writeln!(stdout(), "{key}  {}{also}", file.display())?;
        }
    }
    if json {
        writeln!(stdout(), "{}", json!({ "keys": shown }))?;
    }
    Ok(())
}

fn allow(allow: &KeysAllow, json: bool) -> anyhow::Result<()> {
    let mut made = Vec::new();
    for file in &allow.files {
        let key = Certificate::read_public(file)?;
        let name = file.file_stem().and_then(|name| name.to_str()).context("the file has no name")?;
        for role in &allow.roles {
            let to = allow.dir.join(role.folder()).join(format!("{name}.{PUBLIC_SUFFIX}"));
            if to.exists() {
                if Certificate::read_public(&to)? != key {
                    bail!("{} is another key; remove it first, if it is not to be let in any more", to.display());
                }
            } else {
                // Not a copy of the file, which might be the secret one.
                write_public(&to, name, &key)?;
            }
            if !json {
                writeln!(stdout(), "{}", to.display())?;
            }
            made.push(to.display().to_string());
        }
    }
    if json {
        writeln!(stdout(), "{}", json!({ "allowed": made }))?;
    } else {
        writeln!(stdout(), "a broker that runs with --allow {} notices in a second or two", allow.dir.display())?;
    }
    Ok(())
}

/// Parses a name that can be a file's name, and leads to no other folder.
pub fn file_name(text: &str) -> Result<String, String> {
    name::parse(text).map_err(|bad| bad.to_string())?;
    match Path::new(text).file_name() == Some(text.as_ref()) && !text.starts_with(['.', '-']) && !text.contains('"') {
        true => Ok(text.into()),
        false => Err("it must be the name of a file".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_makes_a_file_and_leads_nowhere_else() {
        for good in ["alice", "worker-1", "a.b", "né"] {
            assert_eq!(file_name(good).as_deref(), Ok(good));
        }
        for bad in ["", "..", ".hidden", "../a", "a/b", "/a", "a b", "a\n", "-v", "a\"b"] {
            assert!(file_name(bad).is_err(), "{bad:?}");
        }
    }
}
