// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// A library: functions, but no program.
int helper(int value) { return value + 1; }
