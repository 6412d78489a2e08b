"""The trainers that a recipe may name, each with the method that stands behind it."""

from __future__ import annotations

from harness.core.plugins import PluginTable

TRAINERS = PluginTable(
    "ratchet.trainers",
    "trainer",
    {
        "sft": "trainers.methods.sft:METHOD",
        "reward": "trainers.methods.reward_model:METHOD",
        "dpo": "trainers.methods.preference:DPO",
        "kto": "trainers.methods.preference:KTO",
        "grpo": "trainers.methods.reinforcement:GRPO",
        "rloo": "trainers.methods.reinforcement:RLOO",
        "ppo": "trainers.methods.reinforcement:PPO",
    },
)
"""Name -> `trainers.methods.base.Method`. A package adds one in the group `ratchet.trainers`."""
