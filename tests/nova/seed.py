"""Run with Nova's interpreter: fills Nova's databases through Nova's own objects.

``seed.py CONFIG < SPECIFICATION > ANSWER``, both JSON: see ``cloud.Cloud``. The
answer has the instances to be read as Nova itself would send them to a compute.
"""

import json
import sys

from nova import config
from nova import context
from nova import objects
from nova.network import model


def main():
    config.parse_args(['nova-seed', '--config-file', sys.argv[1]])
    objects.register_all()
    wanted = json.load(sys.stdin)
    admin = context.get_admin_context()
    cells = {cell.name: cell for cell in objects.CellMappingList.get_all(admin)}
    for host, cell in wanted['hosts'].items():
        with context.target_cell(admin, cells[cell]) as ctxt:
            service = objects.Service(ctxt, host=host, binary='nova-compute', topic='compute')
            service.create()
        objects.HostMapping(admin, cell_mapping=cells[cell], host=host).create()
    for spec in wanted['instances']:
        cell = cells.get(spec['cell'])
        objects.InstanceMapping(
            admin,
            instance_uuid=spec['uuid'],
            cell_mapping=cell,
            project_id='a-project',
            user_id='a-user',
            queued_for_delete=False,
        ).create()
        if cell is not None:
            with context.target_cell(admin, cell) as ctxt:
                add_instance(ctxt, spec)
    answer = {}
    for uuid, cell in wanted['read']:
        with context.target_cell(admin, cells[cell]) as ctxt:
            (instance,) = objects.InstanceList.get_by_filters(
                ctxt, {'uuid': [uuid]}, expected_attrs=['migration_context', 'info_cache']
            )
        answer[uuid] = instance.obj_to_primitive()
    json.dump(answer, sys.stdout)


def add_instance(ctxt, spec):
    flavor = objects.Flavor(
        name='m1', memory_mb=64, vcpus=1, root_gb=1, ephemeral_gb=0, flavorid='1', swap=0, rxtx_factor=1.0,
        vcpu_weight=0, disabled=False, is_public=True, extra_specs={}, description=None, id=1,
        created_at=None, updated_at=None, deleted_at=None, deleted=False,
    )  # fmt: skip
    instance = objects.Instance(
        ctxt,
        uuid=spec['uuid'],
        user_id='a-user',
        project_id='a-project',
        host=spec['host'],
        flavor=flavor,
        instance_type_id=1,
        image_ref='an-image',
        hostname='häuschen',
        display_name='Häuschen',
        vm_state='active',
        power_state=1,
        access_ip_v4='192.0.2.7',
        system_metadata={'image_min_ram': '0'},
    )
    instance.create()
    if spec.get('port'):
        vif = model.VIF(
            id=spec['port'], address='fa:16:3e:00:00:01', network=model.Network(id='net', subnets=[])
        )
        instance.info_cache.network_info = model.NetworkInfo([vif])
        instance.info_cache.save()
    if move := spec.get('migration'):
        migration = objects.Migration(
            ctxt,
            instance_uuid=instance.uuid,
            source_compute=move['source'],
            dest_compute=move['dest'],
            cross_cell_move=move.get('across_cells', False),
            status='migrating',
            migration_type='migration',
        )
        migration.create()
        instance.migration_context = objects.MigrationContext(
            instance_uuid=instance.uuid,
            migration_id=migration.id,
            **dict.fromkeys(
                f'{age}_{what}'
                for age in ('old', 'new')
                for what in ('numa_topology', 'pci_devices', 'pci_requests', 'resources')
            ),
        )
        instance.save()
    if spec.get('deleted'):
        instance.destroy()


if __name__ == '__main__':
    main()
