"""Why a checkpoint got worse: which rows taught it what it lost."""
