#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Studies routing: makes the paper's figures again, brings a trace from NumPy, compares a policy of their own, and
# sees what a policy in the library takes.
. "$(dirname "$0")/run.sh"
newcomer researcher start.md your-trace.md add-a-policy.md
said "mine.npy: 4000 tokens x 12 layers, top-6 of 64 experts, 40 sequences"
said "^optimal [0-9.]+$"
said "^last [0-9.]+$"
said '^\+MakePolicy make_last;$'
left figures.html "</html>"
left mine.html "</html>"
