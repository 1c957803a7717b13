# Becomes $VAGRANT_HOME/Vagrantfile. Debian's Vagrant is 2.3.7, whose newest driver is that of
# VirtualBox 7.0. Upstream (2.4.9) drives 7.1 and 7.2 with subclasses that add nothing on Linux, so
# here 7.1 and 7.2 are called 7.0.
require Vagrant.source_root.join("plugins/providers/virtualbox/driver/meta").to_s

module LabctlNewerVirtualBox
  protected def read_version
    super&.sub(/\A7\.[12]\./, "7.0.")
  end
end
VagrantPlugins::ProviderVirtualBox::Driver::Meta.prepend(LabctlNewerVirtualBox)
