#!/bin/bash
# Makes the tiny Vagrant box: Linux, busybox, bash and dropbear of Debian on a disk of 48 MB.
# Runs inside the rig (a chroot with VirtualBox, gcc and grub); usage: box.sh SOURCE OUTPUT
set -euo pipefail
guest=$1/guest output=$2
tree=$(mktemp -d)
cd "$tree"
mkdir -p root/{usr/bin,usr/lib,usr/lib64,boot/grub,dev,proc,sys,run,tmp,root,home/vagrant} \
    root/etc/dropbear
# All programs in one directory: dropbear gives a session no other on its PATH.
ln -s usr/bin root/bin
ln -s usr/bin root/sbin
ln -s bin root/usr/sbin
ln -s usr/lib root/lib
ln -s usr/lib64 root/lib64

# Programs, each with the libraries it names.
programs=(/bin/bash /usr/bin/flock /usr/bin/busybox /usr/sbin/dropbear /usr/bin/dropbearkey)
for program in "${programs[@]}"; do
    install -D "$program" "root$program"
    for library in $(ldd "$program" | grep -oE '/[^ ]+'); do
        install -D "$(realpath "$library")" "root$library"
    done
done
# init, sh, ip, udhcpc and the rest: busybox by many names.
for applet in $(busybox --list); do
    [ -e "root/usr/bin/$applet" ] || ln -s busybox "root/usr/bin/$applet"
done
for source in "$guest"/*.c; do
    gcc -Wall -Wextra -Werror -Os -s -static -o "root/usr/bin/$(basename "$source" .c)" "$source"
done
chmod 4755 root/usr/bin/sudo
rm root/usr/bin/date # the link to busybox
install "$guest/scp" "$guest/date" root/usr/bin/
# Vagrant says `shutdown -h now`, labctl `systemctl poweroff`.
printf '#!/bin/sh\nexec poweroff\n' >root/usr/bin/shutdown
# shellcheck disable=SC2016
printf '#!/bin/sh\n[ "$*" = poweroff ] && exec poweroff\necho "systemctl: only poweroff is known here" >&2\nexit 1\n' \
    >root/usr/bin/systemctl
chmod 755 root/usr/bin/{shutdown,systemctl}
install "$guest/boot.sh" "$guest/udhcpc.script" "$guest/inittab" root/etc/
chmod 644 root/etc/inittab

echo tiny >root/etc/hostname
printf '127.0.0.1 localhost tiny\n' >root/etc/hosts
printf 'ID=labctl-tiny\nNAME="labctl test guest"\nPRETTY_NAME="labctl test guest"\n' >root/etc/os-release
printf '%s\n' 'root:*:0:0::/root:/bin/bash' 'vagrant:*:1000:1000::/home/vagrant:/bin/bash' >root/etc/passwd
printf '%s\n' 'root:x:0:' 'vagrant:x:1000:' >root/etc/group
printf '%s\n' /bin/sh /bin/bash >root/etc/shells
# The key that every public box accepts at first: Vagrant's own, known to all.
mkdir root/home/vagrant/.ssh root/root/.ssh
cp "$(find / -xdev -path '*/vagrant-*/keys/vagrant.pub' -print -quit)" root/home/vagrant/.ssh/authorized_keys
chmod 700 root/home/vagrant/.ssh root/root/.ssh root/root
chmod 600 root/home/vagrant/.ssh/authorized_keys
chown -R 1000:1000 root/home/vagrant

cp "$guest/tiny-vmlinuz" root/boot/vmlinuz
cat >root/boot/grub/grub.cfg <<'END'
set root=(hd0,msdos1)
linux /boot/vmlinuz console=ttyS0 root=/dev/sda1 ro rootwait panic=-1 quiet
boot
END
printf 'set root=(hd0,msdos1)\nset prefix=(hd0,msdos1)/boot/grub\n' >early.cfg

truncate -s 40M part
mke2fs -q -t ext4 -O ^metadata_csum,^64bit -J size=1 -m 0 -d root part
truncate -s 48M disk
printf 'label: dos\nstart=2048, type=83, bootable\n' | sfdisk -q disk
dd if=part of=disk bs=1M seek=1 conv=notrunc,sparse status=none
grub-mkimage -O i386-pc -o core -c early.cfg -p '(hd0,msdos1)/boot/grub' \
    biosdisk part_msdos ext2 linux normal boot
dd if=/usr/lib/grub/i386-pc/boot.img of=disk bs=446 count=1 conv=notrunc status=none
dd if=core of=disk bs=512 seek=1 conv=notrunc status=none

VBoxManage -q convertfromraw disk disk.vdi --format VDI
VBoxManage -q createvm --name labctl-tiny --ostype Debian_64 --register
VBoxManage -q modifyvm labctl-tiny --memory 128 --cpus 1 --nic1 nat --nictype1 virtio \
    --mac-address1 080027AB0001 --vram 8 --graphicscontroller vmsvga --audio-driver none
VBoxManage -q storagectl labctl-tiny --name SATA --add sata --portcount 2
VBoxManage -q storageattach labctl-tiny --storagectl SATA --port 0 --type hdd --medium "$PWD/disk.vdi"
mkdir box
VBoxManage -q export labctl-tiny -o box/box.ovf
VBoxManage -q unregistervm labctl-tiny --delete-all
echo '{"provider": "virtualbox"}' >box/metadata.json
# What is true of every lab made of this box: it is slow, and no Debian.
cat >box/Vagrantfile <<'END'
Vagrant.configure("2") do |config|
  config.vm.base_mac = "080027AB0001"
  config.vm.boot_timeout = 900
  config.vm.guest = :linux
  config.ssh.connect_timeout = 40
  config.vm.allow_fstab_modification = false # each command over SSH takes seconds
  config.vm.provider("virtualbox") { |virtualbox| virtualbox.check_guest_additions = false }
end
END
(cd box && tar -czf "$output" ./*)
