#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Serves a model with expert parallelism and asks whether METRO is worth it: installs, takes the tour, asks for
# advice, and goes through a recording.
. "$(dirname "$0")/run.sh"
newcomer serving_engineer start.md verify.md
said "^metro [0-9]"
said "activated experts|activated"
said "^Advice for Qwen3-235B-A22B"
left compare.html "</html>"
left advice.json '"command": ?"advise"'
left advice.html "</html>"
