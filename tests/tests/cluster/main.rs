//! `giostra scale` with real engines: a Slurm and an OpenPBS of several nodes, an sshd, each host a
//! network namespace.
//!
//! Minutes, and packages that few machines have: `just cluster-test` runs them, `just test` does not.

mod moves;
mod pbs;
mod slurm;
mod ssh;
mod two;

use std::fs::File;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use giostra_tests::process::{Process, binary};
use giostra_tests::{Network, System, network, test, trials};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

use moves::a_worker_follows_a_name_to_another_address_also_if_the_old_host_falls_silent;
use pbs::{
    walltimes_deleted_jobs_and_crashed_nodes_of_pbs_cost_no_request, what_pbs_refuses_is_told_and_no_job_is_left_behind,
};
use slurm::{
    walltimes_cancelled_requeued_and_killed_jobs_cost_no_request,
    what_slurm_refuses_is_told_before_anything_waits_for_it,
};
use ssh::workers_come_through_a_tunnel_and_end_with_the_connection;
use two::two_machines_work_together_by_the_commands_of_the_page;

fn main() -> ExitCode {
    trials::run(&[
        test!(walltimes_cancelled_requeued_and_killed_jobs_cost_no_request needs giostra_tests::slurm::available),
        test!(what_slurm_refuses_is_told_before_anything_waits_for_it needs giostra_tests::slurm::available),
        test!(walltimes_deleted_jobs_and_crashed_nodes_of_pbs_cost_no_request needs giostra_tests::pbs::available),
        test!(what_pbs_refuses_is_told_and_no_job_is_left_behind needs giostra_tests::pbs::available),
        test!(workers_come_through_a_tunnel_and_end_with_the_connection needs ssh::available),
        test!(two_machines_work_together_by_the_commands_of_the_page needs network::available),
        test!(a_worker_follows_a_name_to_another_address_also_if_the_old_host_falls_silent needs network::available),
    ])
}

/// A `giostra` command on the host `client`.
fn giostra(network: &Network, system: &System, words: &[&str]) -> Result<Command> {
    let mut command = network.command("client", binary("giostra")?);
    command.args(["--broker", system.frontend()]).args(system.key_args("client")).args(words).stdin(Stdio::null());
    Ok(command)
}

/// Requests that sleep: most of them shortly, few for seconds.
struct Work {
    lines: Vec<String>,
    process: Process,
}

impl Work {
    /// Begins to send so many, of `shortest` to `longest` seconds.
    fn begin(network: &Network, system: &System, count: usize, [shortest, longest]: [f64; 2]) -> Result<Self> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
        let seconds =
            |random: &mut Xoshiro256PlusPlus| shortest * (longest / shortest).powf(random.random::<f64>().powi(2));
        let lines: Vec<_> = (0..count).map(|_| format!("{:.3}", seconds(&mut random))).collect();
        println!(
            "{count} requests, {:.0} s of work",
            lines.iter().filter_map(|line| line.parse::<f64>().ok()).sum::<f64>()
        );
        let input = system.folder().join("requests");
        std::fs::write(&input, lines.join("\n") + "\n")?;
        let map = giostra(network, system, &["map", "sleep"])?;
        let process = Process::spawn_with(system.folder(), "client-map", map, File::open(input)?)?;
        Ok(Self { lines, process })
    }

    fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Waits until all are answered, each once, in their order.
    fn finish(mut self) -> Result<()> {
        let status = self.process.wait()?;
        ensure!(status.success(), "{status}: {}", self.process.stderr());
        let number = |line: &str| line.parse::<f64>().with_context(|| line.to_string());
        let answers = self.process.stdout().lines().map(number).collect::<Result<Vec<_>>>()?;
        let expected = self.lines.iter().map(|line| number(line)).collect::<Result<Vec<_>>>()?;
        ensure!(answers == expected, "{} answers to {} requests", answers.len(), expected.len());
        Ok(())
    }
}
