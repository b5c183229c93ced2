"""The tables of Nova that are read, and ``instance_actions``, which is written.

Only their definitions, which are the same in the releases 2024.1 to 2026.2.
"""

from __future__ import annotations

import sqlalchemy as sa

api = sa.MetaData()

cell_mappings = sa.Table(
    'cell_mappings',
    api,
    sa.Column('id', sa.Integer, primary_key=True),
    sa.Column('uuid', sa.String(36)),
    sa.Column('name', sa.String(255)),
    sa.Column('transport_url', sa.Text),
    sa.Column('database_connection', sa.Text),
)

instance_mappings = sa.Table(
    'instance_mappings',
    api,
    sa.Column('id', sa.Integer, primary_key=True),
    sa.Column('instance_uuid', sa.String(36)),
    sa.Column('cell_id', sa.ForeignKey('cell_mappings.id')),
)

host_mappings = sa.Table(
    'host_mappings',
    api,
    sa.Column('id', sa.Integer, primary_key=True),
    sa.Column('cell_id', sa.ForeignKey('cell_mappings.id')),
    sa.Column('host', sa.String(255)),
)

cell = sa.MetaData()


def _times() -> list[sa.Column[object]]:
    return [sa.Column(f'{what}_at', sa.DateTime) for what in ('created', 'updated', 'deleted')]


instances = sa.Table(
    'instances',
    cell,
    *_times(),
    # NOTE: 0, or the id of the row after the instance was deleted.
    sa.Column('deleted', sa.Integer),
    sa.Column('id', sa.Integer, primary_key=True),
    sa.Column('user_id', sa.String(255)),
    sa.Column('project_id', sa.String(255)),
    sa.Column('image_ref', sa.String(255)),
    sa.Column('kernel_id', sa.String(255)),
    sa.Column('ramdisk_id', sa.String(255)),
    sa.Column('hostname', sa.String(255)),
    sa.Column('launch_index', sa.Integer),
    sa.Column('key_name', sa.String(255)),
    sa.Column('key_data', sa.Text),
    sa.Column('power_state', sa.Integer),
    sa.Column('vm_state', sa.String(255)),
    sa.Column('task_state', sa.String(255)),
    sa.Column('memory_mb', sa.Integer),
    sa.Column('vcpus', sa.Integer),
    sa.Column('root_gb', sa.Integer),
    sa.Column('ephemeral_gb', sa.Integer),
    sa.Column('ephemeral_key_uuid', sa.String(36)),
    sa.Column('host', sa.String(255)),
    sa.Column('node', sa.String(255)),
    sa.Column('compute_id', sa.BigInteger),
    sa.Column('instance_type_id', sa.Integer),
    sa.Column('user_data', sa.Text),
    sa.Column('reservation_id', sa.String(255)),
    sa.Column('launched_at', sa.DateTime),
    sa.Column('terminated_at', sa.DateTime),
    sa.Column('availability_zone', sa.String(255)),
    sa.Column('display_name', sa.String(255)),
    sa.Column('display_description', sa.String(255)),
    sa.Column('launched_on', sa.Text),
    sa.Column('locked', sa.Boolean),
    sa.Column('locked_by', sa.String(5)),
    sa.Column('os_type', sa.String(255)),
    sa.Column('architecture', sa.String(255)),
    sa.Column('vm_mode', sa.String(255)),
    sa.Column('uuid', sa.String(36)),
    sa.Column('root_device_name', sa.String(255)),
    sa.Column('default_ephemeral_device', sa.String(255)),
    sa.Column('default_swap_device', sa.String(255)),
    sa.Column('config_drive', sa.String(255)),
    sa.Column('access_ip_v4', sa.String(39)),
    sa.Column('access_ip_v6', sa.String(39)),
    sa.Column('auto_disk_config', sa.Boolean),
    sa.Column('progress', sa.Integer),
    sa.Column('shutdown_terminate', sa.Boolean),
    sa.Column('disable_terminate', sa.Boolean),
    sa.Column('cell_name', sa.String(255)),
    sa.Column('cleaned', sa.Integer),
    sa.Column('hidden', sa.Boolean),
)

instance_info_caches = sa.Table(
    'instance_info_caches',
    cell,
    *_times(),
    sa.Column('deleted', sa.Integer),
    sa.Column('id', sa.Integer, primary_key=True),
    sa.Column('network_info', sa.Text),
    sa.Column('instance_uuid', sa.String(36)),
)

instance_extra = sa.Table(
    'instance_extra',
    cell,
    sa.Column('id', sa.Integer, primary_key=True),
    sa.Column('instance_uuid', sa.String(36)),
    sa.Column('migration_context', sa.Text),
)

migrations = sa.Table(
    'migrations',
    cell,
    sa.Column('deleted', sa.Integer),
    sa.Column('id', sa.Integer, primary_key=True),
    sa.Column('source_compute', sa.String(255)),
    sa.Column('dest_compute', sa.String(255)),
    sa.Column('instance_uuid', sa.String(36)),
    sa.Column('cross_cell_move', sa.Boolean),
)

services = sa.Table(
    'services',
    cell,
    sa.Column('deleted', sa.Integer),
    sa.Column('id', sa.Integer, primary_key=True),
    sa.Column('binary', sa.String(255)),
    sa.Column('forced_down', sa.Boolean),
    sa.Column('version', sa.Integer),
)

instance_actions = sa.Table(
    'instance_actions',
    cell,
    *_times(),
    sa.Column('deleted', sa.Integer),
    sa.Column('id', sa.Integer, primary_key=True),
    sa.Column('action', sa.String(255)),
    sa.Column('instance_uuid', sa.String(36)),
    sa.Column('request_id', sa.String(255)),
    sa.Column('user_id', sa.String(255)),
    sa.Column('project_id', sa.String(255)),
    sa.Column('start_time', sa.DateTime),
    sa.Column('finish_time', sa.DateTime),
    sa.Column('message', sa.String(255)),
)

instance_actions_events = sa.Table(
    'instance_actions_events',
    cell,
    sa.Column('deleted', sa.Integer),
    sa.Column('id', sa.Integer, primary_key=True),
    sa.Column('action_id', sa.ForeignKey('instance_actions.id')),
    sa.Column('event', sa.String(255)),
    sa.Column('start_time', sa.DateTime),
    sa.Column('finish_time', sa.DateTime),
    sa.Column('result', sa.String(255)),
    sa.Column('host', sa.String(255)),
    sa.Column('details', sa.Text),
)
