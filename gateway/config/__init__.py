"""Policy files become domain.policy; the only importer of yaml."""
