"""Networks, one family a file; `faceinpaint_cli.models.registry` names them."""
